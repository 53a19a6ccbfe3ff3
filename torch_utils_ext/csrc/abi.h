// The C ABI of the kernels of torch_utils_ext, a set of functions that is implemented four times.
//
//   csrc/cpu/*.cpp        vectorised CPU kernels; `stream` is ignored
//   csrc/cuda/*.cu        CUDA kernels (bodies in csrc/kernels/), compiled by nvcc; no torch header anywhere
//   csrc/driver/*.cpp     the launchers of csrc/cuda/ compiled by g++, for the same bodies compiled by NVRTC
//   csrc/emulation/*.cpp  the same bodies compiled by g++ through an emulation of CUDA; `stream` is ignored
//
// Each becomes a separate shared library, which csrc/bind.cpp opens with dlopen and looks up by the names below.
//
// Conventions. Tensors are contiguous NCHW. T is the type of activations, given by `dtype`. A is the type of sums, filters and
// side inputs, which is double if T is double, else float. The functions allocate nothing. A function that needs scratch memory
// takes `workspace`, of the size that its *_workspace function returned for the same arguments (NULL is allowed if that is 0).
// Outputs never alias inputs and are written completely. Work is queued on `stream` (a cudaStream_t) of the current device, and
// the functions return at once, with 0 or a code that tux_error_string explains. Equal inputs give equal bits, so there are no
// atomics. A size of 0 (N, C, H or W) is not an error; such a call does nothing.

#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TUX_ABI_VERSION 1

enum tux_dtype { TUX_F32 = 0, TUX_F16 = 1, TUX_BF16 = 2, TUX_F64 = 3 };
enum tux_act { TUX_LINEAR = 0, TUX_LRELU = 1 };

// Error codes of this library; positive codes are those of the CUDA runtime.
enum tux_code { TUX_OK = 0, TUX_BAD_DTYPE = -1, TUX_TOO_LARGE = -2, TUX_NO_MEMORY = -3 };

int tux_abi_version(void);                          // TUX_ABI_VERSION
const char* tux_error_string(int code);             // static storage

//---------------------------------------------------------------------------
// Depthwise 3x3. k: A [N or 1, C, 3, 3]; k_per_sample is 1 if its first size is N, and 0 if it is 1.

// y[n,c,h,w] = sum_uv x[n,c,h+u-1,w+v-1] k[n,c,u,v]; with flip, k[n,c,2-u,2-v] in place of k[n,c,u,v].
int tux_depthwise(int dtype, const void* x, const void* k, int k_per_sample, int flip, void* y,
                  int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// gk: A [N, C, 3, 3], gk[n,c,u,v] = sum_hw g[n,c,h,w] x[n,c,h+u-1,w+v-1].
int64_t tux_depthwise_weight_grad_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W);
int tux_depthwise_weight_grad(int dtype, const void* x, const void* g, void* gk, void* workspace,
                              int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// Optional (a library may lack it): both gradients of tux_depthwise(x, k) for the output gradient g, in one pass.
// gx: T [N,C,H,W] = tux_depthwise(g, k, flip = 1); gk as above. Workspace as for tux_depthwise_weight_grad.
int tux_depthwise_backward(int dtype, const void* x, const void* k, int k_per_sample, const void* g, void* gx, void* gk,
                           void* workspace, int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

//---------------------------------------------------------------------------
// Twofold upsampling. H, W are the sizes of the small image x; the large ones, y and g, are [N, C, 2H, 2W].
// k: A [N or 1, C, 4, 3, 3].

// y[n,c,2i+a,2j+b] = sum_uv x[n,c,i+u-1,j+v-1] k[n,c,2a+b,u,v].
int tux_depthwise_up2(int dtype, const void* x, const void* k, int k_per_sample, void* y,
                      int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// gx[n,c,i,j] = sum_abuv g[n,c,2(i-u+1)+a,2(j-v+1)+b] k[n,c,2a+b,u,v], zeros outside g; the transpose of tux_depthwise_up2.
int tux_depthwise_up2_transpose(int dtype, const void* g, const void* k, int k_per_sample, void* gx,
                                int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// gk: A [N, C, 4, 3, 3], gk[n,c,2a+b,u,v] = sum_ij g[n,c,2i+a,2j+b] x[n,c,i+u-1,j+v-1].
int64_t tux_depthwise_up2_weight_grad_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W);
int tux_depthwise_up2_weight_grad(int dtype, const void* x, const void* g, void* gk, void* workspace,
                                  int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// Optional: both gradients of tux_depthwise_up2(x, k). Workspace as for tux_depthwise_up2_weight_grad.
int tux_depthwise_up2_backward(int dtype, const void* x, const void* k, int k_per_sample, const void* g, void* gx, void* gk,
                               void* workspace, int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

//---------------------------------------------------------------------------
// Epilogue. u = x demod[n,c] + noise[n,h,w] + bias[c], y = clamp(gain act(u)). The scalars and side inputs of one call:

typedef struct {
    const void* demod;          // A [N, C] or NULL
    const void* noise;          // A [N or 1, H, W] or NULL
    const void* bias;           // A [C] or NULL
    int noise_per_sample;       // 1 if noise's first size is N
    int act;                    // tux_act
    double alpha;               // slope of lrelu, >= 0
    double gain;                // > 0
    double clamp;               // > 0; a negative value means no clamp
} tux_epilogue_args;

int tux_epilogue(int dtype, const void* x, const tux_epilogue_args* args, void* y,
                 int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// Optional: the epilogue of tux_depthwise_up2(x, k) in the same pass. demod of args is NULL; noise is [N or 1, 2H, 2W].
int tux_depthwise_up2_epilogue(int dtype, const void* x, const void* k, int k_per_sample, const tux_epilogue_args* args, void* y,
                               int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// The slope m of the epilogue at each element is gain, times alpha if u <= 0 under lrelu, and 0 if y is beyond the clamp.
// It is computed from `saved`. With from_output = 0, saved is x; u is computed again from x and args, and |gain act(u)| > clamp
// is beyond. With from_output = 1, saved is y; args' tensors are not read, y <= 0 means u <= 0, and |y| >= clamp rounded to T is
// beyond.

// out = g m.
int tux_epilogue_slope(int dtype, const void* g, const void* saved, int from_output, const tux_epilogue_args* args, void* out,
                       int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// With v = g m: gx = v demod[n,c] (T; v if demod is NULL);  gdemod = sum_hw v x (A [N, C], only with from_output = 0);
// gnoise = sum_c v (A [N, H, W]);  gbias = sum_hw v (A [N, C], per sample). The last three may be NULL if they are not wanted.
// With from_output = 1, the only tensor of args that is read is demod, for gx, if it is not NULL.
int64_t tux_epilogue_backward_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W);
int tux_epilogue_backward(int dtype, const void* g, const void* saved, int from_output, const tux_epilogue_args* args,
                          void* gx, void* gdemod, void* gnoise, void* gbias, void* workspace,
                          int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

//---------------------------------------------------------------------------
// Affine and gated linear unit. x: [N, 2C, H, W], v = scale[c] x + shift[c] + noise[n,h,w], y[n,c] = v[n,c] sigmoid(v[n,C+c]).
// C is the number of output channels. scale, shift: A [2C] or NULL; noise: A [N or 1, H, W] or NULL.

int tux_affine_glu(int dtype, const void* x, const void* scale, const void* shift, const void* noise, int noise_per_sample,
                   void* y, int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

// g: [N, C, H, W]. With w the gradient for v: gx = w scale (T [N, 2C, H, W]);  gscale = sum_hw w x, gshift = sum_hw w (A [N, 2C],
// per sample);  gnoise = sum_c w (A [N, H, W], over 2C channels). The last three may be NULL if they are not wanted.
int64_t tux_affine_glu_backward_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W);
int tux_affine_glu_backward(int dtype, const void* g, const void* x, const void* scale, const void* shift, const void* noise,
                            int noise_per_sample, void* gx, void* gscale, void* gshift, void* gnoise, void* workspace,
                            int64_t N, int64_t C, int64_t H, int64_t W, void* stream);

#ifdef __cplusplus
}
#endif
