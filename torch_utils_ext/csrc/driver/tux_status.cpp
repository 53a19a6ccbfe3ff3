#include "../cuda/status.cu"
