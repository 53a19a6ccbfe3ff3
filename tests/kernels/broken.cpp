// Kernels that are wrong on purpose, one mistake each: what the emulation of CUDA must catch. For tests only.
#include "kernels/reduce.h"

namespace {

enum Mistake { none, no_barrier, no_warp_barrier, uninitialised, uninitialised_dynamic, outside_shared, outside_dynamic,
               divergent_barrier, early_exit, lane_not_in_mask, wrong_mask, different_collectives, absent_source, misaligned,
               too_many_threads };

// out[i] = in[63 - i] by way of shared memory, 64 threads.
__global__ void reverse(const float* in, float* out, int mistake)
{
    SHARED_ARRAY(float, tile, 64);
    DYNAMIC_SHARED_ARRAY(float, space);
    const int i = threadIdx.x;
    if (mistake == early_exit && i == 40)
        return;
    if (mistake != uninitialised || i != 5)
        tile[i] = in[i];
    if (mistake != uninitialised_dynamic || i != 5)
        space[i] = in[i];
    if (mistake == outside_shared && i == 63)
        tile[i + 1] = 0;
    if (mistake == outside_dynamic && i == 0)
        space[i - 1] = 0;
    if (mistake == divergent_barrier && i >= 32)
        __syncthreads();
    else if (mistake != no_barrier)
        __syncthreads();
    float value = tile[63 - i] + space[63 - i];
    if (mistake == misaligned) {
        float pair[2];
        tux::load<2>(in + 1, pair);
        value += pair[0];
    }
    out[i] = value / 2;
}

// out[i] = the sum of in over i's warp, by shuffles; also its neighbour's value by way of shared memory.
__global__ void warp_sum(const float* in, float* out, int mistake)
{
    SHARED_ARRAY(float, tile, 64);
    const int i = threadIdx.x;
    float value = in[i];
    if (mistake == lane_not_in_mask)
        value += __shfl_xor_sync(0x0000FFFF, value, 1);
    else if (mistake == wrong_mask)
        value += __shfl_xor_sync(i % 2 ? 0xFFFFFFFF : 0x55555555, value, 1);
    else if (mistake == different_collectives)
        value += i % 2 ? __ballot_sync(0xFFFFFFFF, 1) : __shfl_xor_sync(0xFFFFFFFF, value, 1);
    else if (mistake == absent_source) {
        if (i % 32 < 16)
            value += __shfl_down_sync(0x0000FFFF, value, 8);
    } else
        value = tux::sum_lanes(value, 32);
    tile[i] = value;
    if (mistake != no_warp_barrier)
        __syncwarp();
    const unsigned vote = __ballot_sync(0xFFFFFFFF, i % 2);
    out[i] = vote == 0xAAAAAAAA && __any_sync(0xFFFFFFFF, i % 32 == 3) && !__all_sync(0xFFFFFFFF, i % 32 == 3) ? tile[i ^ 1] : -1;
}

}   // namespace

extern "C" int broken_reverse(const float* in, float* out, int mistake)
{
    return LAUNCH(reverse, 1, mistake == too_many_threads ? 1025 : 64, 64 * sizeof(float), nullptr, in, out, mistake);
}

extern "C" int broken_warp_sum(const float* in, float* out, int mistake)
{
    return LAUNCH(warp_sum, 1, 64, 0, nullptr, in, out, mistake);
}

// Conversions, for a test on all values.
extern "C" void broken_convert(const float* in, uint16_t* half, uint16_t* bfloat16, long count)
{
    for (long i = 0; i < count; i++) {
        half[i] = half_t(in[i]).bits;
        bfloat16[i] = bfloat16_t(in[i]).bits;
    }
}

extern "C" void broken_widen(float* from_half, float* from_bfloat16)
{
    for (int i = 0; i < 65536; i++) {
        half_t half;
        bfloat16_t bfloat16;
        half.bits = bfloat16.bits = uint16_t(i);
        from_half[i] = float(half);
        from_bfloat16[i] = float(bfloat16);
    }
}
