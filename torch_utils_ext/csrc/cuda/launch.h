// The common parts of the launchers: the choice of a kernel by type, alignment and size; grids; second stages.
#pragma once
#include "../abi.h"
#include "../kernels/reduce.h"
#include <initializer_list>
#include <limits>
#include <type_traits>

namespace tux {

// f(T()) for the activations' type. Double precision is for the emulation, where gradients are checked.
template <class F> int with_type(int dtype, F f)
{
    switch (dtype) {
    case TUX_F32: return f(float());
    case TUX_F16: return f(half_t());
    case TUX_BF16: return f(bfloat16_t());
#if !defined(__CUDACC__) && !defined(TUX_DRIVER)
    case TUX_F64: return f(double());
#endif
    default: return TUX_BAD_DTYPE;
    }
}

template <int I> using Int = std::integral_constant<int, I>;

// Values in 16 bytes, the widest access of a thread.
template <class T> constexpr int kWide = 16 / sizeof(T);

inline bool aligned(std::initializer_list<const void*> pointers)
{
    for (const void* pointer : pointers)
        if (reinterpret_cast<uintptr_t>(pointer) % 16)
            return false;
    return true;
}

// Numbers of planes and offsets within a plane are int; the largest plane has `large` * H * W pixels.
inline bool too_large(int64_t N, int64_t C, int64_t H, int64_t W, int64_t large)
{
    const int64_t limit = std::numeric_limits<int>::max();
    return H > limit || W > limit || N > limit || C > limit / 2 || (N > 0 && C > limit / N) || (H > 0 && W > limit / H / large);
}

inline int64_t divide_up(int64_t n, int64_t d) { return (n + d - 1) / d; }

// d > 0 with its inverse, magic = 2^32 (2^shift - d) / d + 1 for the least 2^shift >= d.
inline Divisor divisor(int64_t d)
{
    int shift = 0;
    while (int64_t(1) << shift < d)
        shift++;
    return {uint32_t(d), uint32_t((((uint64_t(1) << shift) - d) << 32) / d + 1), shift};
}

// The least power of two that is at least n, but at most `most`.
inline int power_of_two(int64_t n, int most)
{
    int power = 1;
    while (power < n && power < most)
        power *= 2;
    return power;
}

inline int log2_of(int power) { return divisor(power).shift; }

// A grid with that number of blocks. It is flat, because dimension x allows 2^31 - 1 blocks.
inline bool fits_grid(int64_t blocks) { return blocks <= std::numeric_limits<int>::max(); }

// Number of slices of a plane's sums. Planes of more than `share` pixels are spread over several blocks.
inline int slices_of(int64_t H, int64_t W, int64_t share)
{
    const int64_t slices = H * W / share;
    return slices < 1 ? 1 : slices > 64 ? 64 : int(slices);
}

template <class A> int sum_rows(const A* part, A* out, int64_t rows, int slices, void* stream)
{
    const int64_t blocks = divide_up(rows, kThreads / 32);
    return fits_grid(blocks) ? LAUNCH(sum_rows_kernel<A>, unsigned(blocks), kThreads, 0, stream, part, out, rows, slices) : TUX_TOO_LARGE;
}

template <class A> int sum_slices(const A* part, A* out, int64_t rows, int slices, int count, void* stream)
{
    const int64_t blocks = divide_up(rows * count, kThreads);
    return fits_grid(blocks) ? LAUNCH(sum_slices_kernel<A>, unsigned(blocks), kThreads, 0, stream, part, out, rows, slices, divisor(count))
                             : TUX_TOO_LARGE;
}

}   // namespace tux
