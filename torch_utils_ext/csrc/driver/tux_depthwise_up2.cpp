#include "../cuda/depthwise_up2.cu"
