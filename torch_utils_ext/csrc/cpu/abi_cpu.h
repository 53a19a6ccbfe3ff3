// The part of the C ABI that only the library for CPUs has, with the conventions of ../abi.h.

#pragma once

#include "../abi.h"

#ifdef __cplusplus
extern "C" {
#endif

// Convolution of many channels. The workspace is aligned to 64 bytes, and of the same size for all functions of a kind.

// 3x3, zero padding 1. w and gw: T [O, I, 3, 3]. The workspace is of the same size for I and O exchanged.

// y[n,o,h,w] = sum_iuv x[n,i,h+u-1,w+v-1] w[o,i,u,v]. With transposed, x is [N,O,H,W], y is [N,I,H,W], and it is the transpose of that.
int64_t tux_conv3x3_workspace(int dtype, int64_t N, int64_t I, int64_t O, int64_t H, int64_t W);
int tux_conv3x3(int dtype, const void* x, const void* w, int transposed, void* y, void* workspace,
                int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void* stream);

// gw[o,i,u,v] = sum_nhw g[n,o,h,w] x[n,i,h+u-1,w+v-1].
int tux_conv3x3_weight_grad(int dtype, const void* x, const void* g, void* gw, void* workspace,
                            int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void* stream);

// The same behind a filter that halves the image. H, W are even, the sizes of the large image x; y and g are [N, O, H/2, W/2]. taps
// are four. With f[n,i,p,q] = sum_ab taps[a] taps[b] x[n,i,p+a-2,q+b-2], zeros outside x, of H+1 by W+1 pixels:
// y[n,o,h,w] = sum_iuv f[n,i,2h+u,2w+v] w[o,i,u,v].
int64_t tux_conv3x3_down2_workspace(int dtype, int64_t N, int64_t I, int64_t O, int64_t H, int64_t W);
int tux_conv3x3_down2(int dtype, const void* x, const void* w, const double* taps, void* y, void* workspace,
                      int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void* stream);
int tux_conv3x3_down2_transpose(int dtype, const void* y, const void* w, const double* taps, void* x, void* workspace,
                                int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void* stream);
int tux_conv3x3_down2_weight_grad(int dtype, const void* x, const void* g, const double* taps, void* gw, void* workspace,
                                  int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void* stream);

// 4x4 convolution at every second pixel, zero padding 1. w and gw: T [O, I, 4, 4]; H, W are even, the sizes of x.
// y[n,o,h,w] = sum_iuv x[n,i,2h+u-1,2w+v-1] w[o,i,u,v].
int64_t tux_conv4x4_down2_workspace(int dtype, int64_t N, int64_t I, int64_t O, int64_t H, int64_t W);
int tux_conv4x4_down2(int dtype, const void* x, const void* w, void* y, void* workspace,
                      int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void* stream);
int tux_conv4x4_down2_transpose(int dtype, const void* y, const void* w, void* x, void* workspace,
                                int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void* stream);
int tux_conv4x4_down2_weight_grad(int dtype, const void* x, const void* g, void* gw, void* workspace,
                                  int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void* stream);

// mean, squares: A [N, C], the mean of each plane of x: T [N, C, H, W], and the sum of squared distances from it.
int tux_moments(int dtype, const void* x, void* mean, void* squares, int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// gx[n,c,h,w] = v[n,c,h,w] + factor[c] x[n,c,h,w] + constant[c]. factor, constant: A [C].
int tux_norm_gradient(int dtype, const void* v, const void* x, const void* factor, const void* constant, void* gx,
                      int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

#ifdef __cplusplus
}
#endif
