// The part of CUDA C++ that the kernels use, for a C++17 compiler. Kernel bodies in csrc/kernels/ compile against this as against
// nvcc's headers. docs/emulation.md describes what it can show and what it cannot.
#pragma once
#include "machine.h"
#include "numbers.h"
#include "shared.h"
#include <algorithm>
#include <cmath>
#include <cstdint>

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

#define threadIdx (::emulation::machine.current->index)
#define blockIdx (::emulation::machine.block_index)
#define blockDim (::emulation::machine.block_size)
#define gridDim (::emulation::machine.grid_size)

// The kernels declare shared arrays by SHARED_ARRAY, here and under nvcc (csrc/kernels/device.h), and index them only with [].
// DYNAMIC_SHARED_ARRAY exists only here, for tests of the emulation; all arrays of the kernels have constant sizes.
#define SHARED_ARRAY(type, name, count) \
    static ::emulation::StaticShared<type, (count)> name##_memory; \
    const ::emulation::Shared<type> name = name##_memory.view(#name)
#define DYNAMIC_SHARED_ARRAY(type, name) const ::emulation::Shared<type> name = ::emulation::dynamic_shared<type>(#name)

#define LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...) \
    ((void)(stream), ::emulation::machine.launch(#kernel, grid, block, dynamic_bytes, [&] { kernel(__VA_ARGS__); }))

typedef ::emulation::Half half_t;
typedef ::emulation::BFloat16 bfloat16_t;
inline float __fdividef(float a, float b) { return a / b; }
using std::min;
using std::max;

//----------------------------------------------------------------------------
// Barriers and warp collectives, with the line that calls them.

#define HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(HERE)
{
    ::emulation::machine.barrier({file, line});
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFF, HERE)
{
    ::emulation::machine.collect(::emulation::Collective::sync, mask, 0, 0, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, HERE)
{
    return ::emulation::machine.collect(::emulation::Collective::ballot, mask, predicate != 0, 0, {file, line});
}

inline int __any_sync(unsigned mask, int predicate, HERE) { return __ballot_sync(mask, predicate, file, line) != 0; }
inline int __all_sync(unsigned mask, int predicate, HERE) { return __ballot_sync(mask, !predicate, file, line) == 0; }

namespace emulation {

// source: the lane to read, counted within the caller's segment of `width` lanes; outside of it, the caller's value is returned.
template <class T>
T shuffle(unsigned mask, T value, int source, int width, Place place)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
    const int lane = machine.current->number % kWarp, segment = lane & ~(width - 1);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = machine.collect(Collective::shuffle, mask, bits, source < 0 || source >= width ? lane : segment + source, place);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

inline int lane_in(int width) { return machine.current->number % kWarp & (width - 1); }

}   // namespace emulation

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, HERE)
{
    return ::emulation::shuffle(mask, value, source & (width - 1), width, {file, line});
}

template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, HERE)
{
    return ::emulation::shuffle(mask, value, ::emulation::lane_in(width) ^ bits, width, {file, line});
}

template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, HERE)
{
    return ::emulation::shuffle(mask, value, ::emulation::lane_in(width) - int(by), width, {file, line});
}

template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, HERE)
{
    return ::emulation::shuffle(mask, value, ::emulation::lane_in(width) + int(by), width, {file, line});
}

#undef HERE
