// Launches a walk over channels and the second stages of its sums.
#pragma once
#include "../kernels/channels.h"
#include "launch.h"

namespace tux {

// The layout of a walk over C channels of N samples, which depends only on the shape and the type.
struct ChannelPlan {
    int pixels, lanes, tiles, chunk, chunks;
    int64_t N, C;

    // wide: pixels of a thread.
    ChannelPlan(int wide, int64_t N, int64_t C, int64_t H, int64_t W) : pixels(int(H * W)), N(N), C(C)
    {
        lanes = power_of_two(divide_up(pixels, wide), 32);
        tiles = int(divide_up(pixels, int64_t(wide) * lanes));
        const int groups = kThreads / lanes;
        chunk = groups > 64 ? groups : 64;
        while (chunk > 2 * groups && N * tiles * divide_up(C, chunk) < 256)
            chunk /= 2;
        chunks = int(divide_up(C, chunk));
    }

    int64_t blocks() const { return N * tiles * chunks; }
    // Elements of a workspace, in multiples of 16 bytes.
    int64_t row_part(int64_t rows) const { return tiles > 1 ? divide_up(rows * tiles, 4) * 4 : 0; }
    int64_t noise_part() const { return chunks > 1 ? N * chunks * pixels : 0; }
};

inline ChannelPlan plan_of(int dtype, int64_t N, int64_t C, int64_t H, int64_t W)
{
    return ChannelPlan(dtype == TUX_F64 ? 2 : dtype == TUX_F32 ? 4 : 8, N, C, H, W);
}

// sums[i], of `rows` rows each, takes sum i of the op; two sums of the op may share one array, next to each other in `sums`.
template <class T, class Op> int walk_channels(const Op& op, bool vectors, const ChannelPlan& plan, Acc<T>* const (&sums)[Op::kSums],
                                               int64_t rows, Acc<T>* noise, void* workspace, void* stream)
{
    Acc<T>* part = static_cast<Acc<T>*>(workspace);
    ChannelSums<Acc<T>> out = {};
    for (int i = 0; i < Op::kSums; i++) {
        const bool shared = i > 0 && sums[i] == sums[i - 1];
        out.sums[i] = !sums[i] ? nullptr : plan.tiles == 1 ? sums[i] : shared ? out.sums[i - 1] : part;
        if (sums[i] && !shared)
            part += plan.row_part(rows);
    }
    out.noise = noise && plan.chunks > 1 ? part : noise;
    if (!fits_grid(plan.blocks()))
        return TUX_TOO_LARGE;
    int code;
    if (vectors && aligned({workspace}))
        code = LAUNCH((channels_kernel<T, kWide<T>, 1, Op>), unsigned(plan.blocks()), kThreads, 0, stream, op, out, int(plan.C),
                      plan.pixels, plan.lanes, divisor(plan.tiles), plan.chunk, divisor(plan.chunks));
    else
        code = LAUNCH((channels_kernel<T, 1, kWide<T>, Op>), unsigned(plan.blocks()), kThreads, 0, stream, op, out, int(plan.C),
                      plan.pixels, plan.lanes, divisor(plan.tiles), plan.chunk, divisor(plan.chunks));
    for (int i = 0; i < Op::kSums && !code; i++)
        if (sums[i] && plan.tiles > 1 && !(i > 0 && sums[i] == sums[i - 1]))
            code = sum_rows<Acc<T>>(out.sums[i], sums[i], rows, plan.tiles, stream);
    if (noise && plan.chunks > 1 && !code)
        code = sum_slices<Acc<T>>(out.noise, noise, plan.N, plan.chunks, plan.pixels, stream);
    return code;
}

// f(V) for element-wise kernels over whole planes.
template <class T, class F> int with_vectors(bool vectors, F f)
{
    return vectors ? f(Int<kWide<T>>()) : f(Int<1>());
}

}   // namespace tux
