#include "../cuda/depthwise.cu"
