// 3x3 convolution of many channels, and the same behind a filter that halves the image. See abi_cpu.h and convolution.h.

#include "abi_cpu.h"
#include "convolution.h"

// Without resampling, the transpose is a convolution too, from the channels O to I.

#define TUX_SAME(I, O) tux::convolution<T, tux::same_size>(N, I, O, H, W, nullptr, workspace)
#define TUX_HALF tux::convolution<T, tux::half_size>(N, I, O, H, W, taps, workspace)

extern "C" {

int64_t tux_conv3x3_workspace(int dtype, int64_t N, int64_t I, int64_t O, int64_t H, int64_t W) {
    void* workspace = nullptr;
    TUX_DISPATCH(dtype, return TUX_SAME(I, O).workspace());
}

int tux_conv3x3(int dtype, const void* x, const void* w, int transposed, void* y, void* workspace,
                int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return (transposed ? TUX_SAME(O, I) : TUX_SAME(I, O)).forward((const T*)x, (const T*)w, transposed, (T*)y));
}

int tux_conv3x3_weight_grad(int dtype, const void* x, const void* g, void* gw, void* workspace,
                            int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_SAME(I, O).weight_grad((const T*)x, (const T*)g, (T*)gw));
}

int64_t tux_conv3x3_down2_workspace(int dtype, int64_t N, int64_t I, int64_t O, int64_t H, int64_t W) {
    void* workspace = nullptr;
    const double* taps = nullptr;
    TUX_DISPATCH(dtype, return TUX_HALF.workspace());
}

int tux_conv3x3_down2(int dtype, const void* x, const void* w, const double* taps, void* y, void* workspace,
                      int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_HALF.forward((const T*)x, (const T*)w, false, (T*)y));
}

int tux_conv3x3_down2_transpose(int dtype, const void* y, const void* w, const double* taps, void* x, void* workspace,
                                int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_HALF.transpose_of((const T*)y, (const T*)w, (T*)x));
}

int tux_conv3x3_down2_weight_grad(int dtype, const void* x, const void* g, const double* taps, void* gw, void* workspace,
                                  int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_HALF.weight_grad((const T*)x, (const T*)g, (T*)gw));
}

}  // extern "C"
