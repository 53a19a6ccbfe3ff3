// Affine map and gated linear unit: v = scale[c] x + shift[c] + noise[n,h,w] on 2C channels, y[n,c] = v[n,c] sigmoid(v[n,C+c]).
#pragma once
#include "channels.h"

namespace tux {

template <class A> struct AffineGluArgs {
    const A *scale, *shift, *noise;
    int noise_per_sample;
};

template <class A> __device__ __forceinline__ A sigmoid(A value);
template <> __device__ __forceinline__ float sigmoid<float>(float value) { return __fdividef(1.0f, 1.0f + expf(-value)); }
template <> __device__ __forceinline__ double sigmoid<double>(double value) { return 1.0 / (1.0 + exp(-value)); }

// Both halves of v, and of x, at V pixels of output channel c.
template <int V, class T>
__device__ __forceinline__ void affine_halves(const AffineGluArgs<Acc<T>>& args, const T* x, int64_t n, int c, int C, int pixel,
                                              int pixels, Acc<T> (&in)[2][V], Acc<T> (&v)[2][V])
{
    Acc<T> noise[V] = {};
    if (args.noise)
        load_wide<V>(args.noise + (args.noise_per_sample ? n * pixels : 0) + pixel, noise);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int channel = half * C + c;
        load<V>(x + (n * 2 * C + channel) * pixels + pixel, in[half]);
        const Acc<T> scale = args.scale ? args.scale[channel] : Acc<T>(1), shift = args.shift ? args.shift[channel] : Acc<T>(0);
#pragma unroll
        for (int i = 0; i < V; i++)
            v[half][i] = in[half][i] * scale + (shift + noise[i]);
    }
}

template <class T, int V> __global__ void __launch_bounds__(kThreads)
affine_glu_kernel(const T* x, AffineGluArgs<Acc<T>> args, T* y, int64_t vectors, Divisor C, Divisor row, int pixels)
{
    const int64_t vector = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (vector >= vectors)
        return;
    int64_t plane;
    int within, n, c;
    divide(vector, row, plane, within);
    divide(int(plane), C, n, c);
    Acc<T> in[2][V], v[2][V];
    affine_halves<V>(args, x, n, c, C.d, within * V, pixels, in, v);
#pragma unroll
    for (int i = 0; i < V; i++)
        v[0][i] *= sigmoid(v[1][i]);
    store<V>(y + vector * V, v[0]);
}

//----------------------------------------------------------------------------
// w = the gradient for v; gx = w scale; sums over pixels: 0, 1 gscale = w x of the two halves, 2, 3 gshift = w; over channels:
// gnoise = w of both halves.

template <class T> struct AffineGluBackward {
    static constexpr int kSums = 4;
    const T *g, *x;
    AffineGluArgs<Acc<T>> args;
    T* gx;

    template <int V> __device__ __forceinline__ void
    visit(int64_t n, int c, int C, int pixel, int pixels, Acc<T> (&sums)[kSums], Acc<T> (&noise)[V]) const
    {
        Acc<T> in[2][V], v[2][V], grad[V], w[2][V];
        affine_halves<V>(args, x, n, c, C, pixel, pixels, in, v);
        load<V>(g + (n * C + c) * pixels + pixel, grad);
#pragma unroll
        for (int i = 0; i < V; i++) {
            const Acc<T> gate = sigmoid(v[1][i]);
            w[0][i] = grad[i] * gate;
            w[1][i] = grad[i] * v[0][i] * gate * (1 - gate);
            noise[i] += w[0][i] + w[1][i];
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const Acc<T> scale = args.scale ? args.scale[half * C + c] : Acc<T>(1);
#pragma unroll
            for (int i = 0; i < V; i++) {
                sums[half] += w[half][i] * in[half][i];
                sums[2 + half] += w[half][i];
                w[half][i] *= scale;
            }
            store<V>(gx + (n * 2 * C + half * C + c) * pixels + pixel, w[half]);
        }
    }

    __device__ __forceinline__ int64_t row(int64_t n, int c, int C, int m) const { return n * 2 * C + m % 2 * C + c; }
};

}   // namespace tux
