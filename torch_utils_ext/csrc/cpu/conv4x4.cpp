// 4x4 convolution of many channels at every second pixel, and its transpose. See abi_cpu.h and convolution.h.

#include "abi_cpu.h"
#include "convolution.h"

#define TUX_QUARTER tux::convolution<T, tux::quarter_size>(N, I, O, H, W, nullptr, workspace)

extern "C" {

int64_t tux_conv4x4_down2_workspace(int dtype, int64_t N, int64_t I, int64_t O, int64_t H, int64_t W) {
    void* workspace = nullptr;
    TUX_DISPATCH(dtype, return TUX_QUARTER.workspace());
}

int tux_conv4x4_down2(int dtype, const void* x, const void* w, void* y, void* workspace,
                      int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_QUARTER.forward((const T*)x, (const T*)w, false, (T*)y));
}

int tux_conv4x4_down2_transpose(int dtype, const void* y, const void* w, void* x, void* workspace,
                                int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_QUARTER.transpose_of((const T*)y, (const T*)w, (T*)x));
}

int tux_conv4x4_down2_weight_grad(int dtype, const void* x, const void* g, void* gw, void* workspace,
                                  int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_QUARTER.weight_grad((const T*)x, (const T*)g, (T*)gw));
}

}  // extern "C"
