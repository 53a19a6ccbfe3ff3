// Layouts of planes in strips, and of their slices.
#pragma once
#include "../kernels/depthwise.h"
#include "launch.h"

namespace tux {

// Strips of V columns by `height` rows.
inline Strips strips_of(int64_t N, int64_t C, int64_t H, int64_t W, int V, int height)
{
    const int64_t columns = W / V;
    return {N * C, int(H), int(W), height, divisor(C), divisor(columns), divisor(columns * divide_up(H, height))};
}

// Each plane in `slices` parts, with a group of threads for each, up to `threads`.
inline Slices slices_of(const Strips& strips, int slices, int threads)
{
    const int share = int(divide_up(strips.strips.d, slices));
    return {divisor(slices), share, log2_of(power_of_two(share, threads))};
}

inline int64_t blocks_of(const Strips& strips, int threads) { return divide_up(strips.planes * strips.strips.d, threads); }

inline int64_t blocks_of(const Strips& strips, const Slices& slices, int threads)
{
    return divide_up(strips.planes * slices.slices.d, threads >> slices.group);
}

}   // namespace tux
