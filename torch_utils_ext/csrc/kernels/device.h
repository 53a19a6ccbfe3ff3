// The basis of kernel bodies, for nvcc, for NVRTC, and for the emulation of CUDA by a C++ compiler: types, conversions, vector
// access. TUX_DRIVER is defined where launchers are compiled for the kernels of NVRTC (csrc/driver/); bodies are then not emitted.
#pragma once
#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#ifndef __CUDACC_RTC__
#include <cuda_runtime.h>
#endif
typedef __half half_t;
typedef __nv_bfloat16 bfloat16_t;
#define SHARED_ARRAY(type, name, count) __shared__ type name[count]
#define LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...) \
    (kernel<<<grid, block, dynamic_bytes, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__), static_cast<int>(cudaGetLastError()))
#else
#include "../emulation/cuda.h"
#ifdef TUX_DRIVER
#include "../driver/launch.h"
#endif
#endif

namespace tux {

constexpr unsigned kThreads = 256;      // threads of a block in all kernels
constexpr unsigned kAllLanes = 0xFFFFFFFF;

// The type of sums, filters and side inputs.
template <class T> struct accumulator { typedef float type; };
template <> struct accumulator<double> { typedef double type; };
template <class T> using Acc = typename accumulator<T>::type;

//----------------------------------------------------------------------------
// Conversions.

template <class T> __device__ __forceinline__ Acc<T> widen(T value) { return Acc<T>(value); }

template <class T> __device__ __forceinline__ T narrow(Acc<T> value) { return T(value); }
#ifdef __CUDACC__
template <> __device__ __forceinline__ float widen<half_t>(half_t value) { return __half2float(value); }
template <> __device__ __forceinline__ float widen<bfloat16_t>(bfloat16_t value) { return __bfloat162float(value); }
template <> __device__ __forceinline__ half_t narrow<half_t>(float value) { return __float2half_rn(value); }
template <> __device__ __forceinline__ bfloat16_t narrow<bfloat16_t>(float value) { return __float2bfloat16_rn(value); }
#endif

//----------------------------------------------------------------------------
// V neighbours at once; the address is a multiple of their size.

template <class T, int V> struct alignas(sizeof(T) * V) Pack { T at[V]; };

template <class T, int V> __device__ __forceinline__ void check_aligned(const T* address)
{
#ifndef __CUDACC__
    if (reinterpret_cast<uintptr_t>(address) % sizeof(Pack<T, V>))
        ::emulation::machine.fault("vector access to %p, which is no multiple of %zu", (const void*)address, sizeof(Pack<T, V>));
#else
    (void)address;
#endif
}

template <int V, class T> __device__ __forceinline__ void load(const T* address, Acc<T>* values)
{
    check_aligned<T, V>(address);
    const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(address);
#pragma unroll
    for (int i = 0; i < V; i++)
        values[i] = widen<T>(pack.at[i]);
}

// The bytes of a pack in one access. nvcc splits the plain store of a pack whose values come from several places into single words.
template <class P> __device__ __forceinline__ void store_bytes(void* address, const P& pack)
{
#ifdef __CUDACC__
    if constexpr (sizeof(P) == 16) {
        uint4 words;
        memcpy(&words, &pack, sizeof(P));
        __stwb(static_cast<uint4*>(address), words);
    } else if constexpr (sizeof(P) == 8) {
        uint2 words;
        memcpy(&words, &pack, sizeof(P));
        __stwb(static_cast<uint2*>(address), words);
    } else
#endif
        *static_cast<P*>(address) = pack;
}

template <int V, class T> __device__ __forceinline__ void store(T* address, const Acc<T>* values)
{
    check_aligned<T, V>(address);
    Pack<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; i++)
        pack.at[i] = narrow<T>(values[i]);
    store_bytes(address, pack);
}

// The same for more than 16 bytes: noise in float beside half precision.
template <int V, class A> __device__ __forceinline__ void load_wide(const A* address, A* values)
{
    constexpr int kPart = V * sizeof(A) <= 16 ? V : 16 / sizeof(A);
#pragma unroll
    for (int i = 0; i < V; i += kPart)
        load<kPart>(address + i, values + i);
}

template <int V, class A> __device__ __forceinline__ void store_wide(A* address, const A* values)
{
    constexpr int kPart = V * sizeof(A) <= 16 ? V : 16 / sizeof(A);
#pragma unroll
    for (int i = 0; i < V; i += kPart)
        store<kPart>(address + i, values + i);
}

//----------------------------------------------------------------------------
// n = quotient * d + remainder. A divisor comes with its inverse (csrc/cuda/launch.h), because a GPU divides integers by a
// sequence of some twenty instructions: for 0 <= n < 2^31, n / d = (n magic / 2^32 + n) / 2^shift (Granlund and Montgomery 1994).

struct Divisor { uint32_t d, magic; int shift; };

__device__ __forceinline__ void divide(int n, const Divisor& by, int& quotient, int& remainder)
{
    quotient = int((uint32_t((uint64_t(uint32_t(n)) * by.magic) >> 32) + uint32_t(n)) >> by.shift);
    remainder = n - quotient * int(by.d);
}

__device__ __forceinline__ void divide(int64_t n, const Divisor& by, int64_t& quotient, int& remainder)
{
    if (n >> 31) {
        quotient = n / by.d;
        remainder = int(n - quotient * by.d);
    } else {
        int small;
        divide(int(n), by, small, remainder);
        quotient = small;
    }
}

__device__ __forceinline__ int remainder_of(int n, const Divisor& by)
{
    int quotient, remainder;
    divide(n, by, quotient, remainder);
    return remainder;
}

}   // namespace tux
