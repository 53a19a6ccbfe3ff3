#include "../cuda/epilogue.cu"
