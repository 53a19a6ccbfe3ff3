#include "../cuda/affine_glu.cu"
