// Epilogue of a synthesis layer: y = clamp(gain act(u)), u = x demod[n,c] + noise[n,h,w] + bias[c], and its gradients.
#pragma once
#include "channels.h"

namespace tux {

template <class A> struct EpilogueArgs {
    const A *demod, *noise, *bias;
    int noise_per_sample;
    A alpha;                    // 1 if the activation is linear
    A gain, clamp;              // clamp < 0 means no clamp
};

// u at V pixels of channel c of sample n.
template <int V, class T>
__device__ __forceinline__ void epilogue_input(const EpilogueArgs<Acc<T>>& args, const T* x, int64_t n, int c, int C, int pixel,
                                               int pixels, Acc<T> (&u)[V])
{
    load<V>(x + (n * C + c) * pixels + pixel, u);
    const Acc<T> demod = args.demod ? args.demod[n * C + c] : Acc<T>(1), bias = args.bias ? args.bias[c] : Acc<T>(0);
    Acc<T> noise[V] = {};
    if (args.noise)
        load_wide<V>(args.noise + (args.noise_per_sample ? n * pixels : 0) + pixel, noise);
#pragma unroll
    for (int i = 0; i < V; i++)
        u[i] = u[i] * demod + (noise[i] + bias);
}

// clamp(gain act(u)).
template <class A> __device__ __forceinline__ A epilogue_value(const EpilogueArgs<A>& args, A u)
{
    const A value = args.gain * (u > 0 ? u : args.alpha * u);
    return args.clamp < 0 ? value : value > args.clamp ? args.clamp : value < -args.clamp ? -args.clamp : value;
}

template <class T, int V> __global__ void __launch_bounds__(kThreads)
epilogue_kernel(const T* x, EpilogueArgs<Acc<T>> args, T* y, int64_t vectors, Divisor C, Divisor row, int pixels)
{
    const int64_t vector = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (vector >= vectors)
        return;
    int64_t plane;
    int within, n, c;
    divide(vector, row, plane, within);
    divide(int(plane), C, n, c);
    Acc<T> u[V];
    epilogue_input<V>(args, x, n, c, C.d, within * V, pixels, u);
#pragma unroll
    for (int i = 0; i < V; i++)
        u[i] = epilogue_value(args, u[i]);
    store<V>(y + vector * V, u);
}

//----------------------------------------------------------------------------
// v = g m, where the slope m is gain, times alpha if u <= 0, and 0 beyond the clamp. It is computed from the input, or from the
// output, whose clamp is rounded to T.

template <int V, bool FROM_OUTPUT, class T>
__device__ __forceinline__ void epilogue_slope(const EpilogueArgs<Acc<T>>& args, const T* g, const T* saved, int64_t n, int c, int C,
                                               int pixel, int pixels, Acc<T> (&v)[V])
{
    const int64_t at = (n * C + c) * pixels + pixel;
    load<V>(g + at, v);
    Acc<T> u[V];
    if (FROM_OUTPUT)
        load<V>(saved + at, u);
    else
        epilogue_input<V>(args, saved, n, c, C, pixel, pixels, u);
    const Acc<T> limit = FROM_OUTPUT ? widen<T>(narrow<T>(args.clamp)) : args.clamp;
#pragma unroll
    for (int i = 0; i < V; i++) {
        const Acc<T> slope = args.gain * (u[i] <= 0 ? args.alpha : Acc<T>(1));
        const Acc<T> size = u[i] < 0 ? -u[i] : u[i];
        const bool beyond = args.clamp >= 0 && (FROM_OUTPUT ? size >= limit : size * slope > limit);
        v[i] = beyond ? Acc<T>(0) : v[i] * slope;
    }
}

template <class T, int V, bool FROM_OUTPUT> __global__ void __launch_bounds__(kThreads)
epilogue_slope_kernel(const T* g, const T* saved, EpilogueArgs<Acc<T>> args, T* out, int64_t vectors, Divisor C, Divisor row, int pixels)
{
    const int64_t vector = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (vector >= vectors)
        return;
    int64_t plane;
    int within, n, c;
    divide(vector, row, plane, within);
    divide(int(plane), C, n, c);
    Acc<T> v[V];
    epilogue_slope<V, FROM_OUTPUT>(args, g, saved, n, c, C.d, within * V, pixels, v);
    store<V>(out + vector * V, v);
}

//----------------------------------------------------------------------------
// gx = v demod; sums over pixels: 0 gdemod = v x (from the input only), 1 gbias = v; over channels: gnoise = v.

template <class T, bool FROM_OUTPUT> struct EpilogueBackward {
    static constexpr int kSums = 2;
    const T *g, *saved;
    EpilogueArgs<Acc<T>> args;
    T* gx;

    template <int V> __device__ __forceinline__ void
    visit(int64_t n, int c, int C, int pixel, int pixels, Acc<T> (&sums)[kSums], Acc<T> (&noise)[V]) const
    {
        const int64_t at = (n * C + c) * pixels + pixel;
        Acc<T> v[V], x[V];
        epilogue_slope<V, FROM_OUTPUT>(args, g, saved, n, c, C, pixel, pixels, v);
        if (!FROM_OUTPUT)
            load<V>(saved + at, x);
        const Acc<T> demod = args.demod ? args.demod[n * C + c] : Acc<T>(1);
#pragma unroll
        for (int i = 0; i < V; i++) {
            if (!FROM_OUTPUT)
                sums[0] += v[i] * x[i];
            sums[1] += v[i];
            noise[i] += v[i];
            v[i] *= demod;
        }
        store<V>(gx + at, v);
    }

    __device__ __forceinline__ int64_t row(int64_t n, int c, int C, int) const { return n * C + c; }
};

}   // namespace tux
