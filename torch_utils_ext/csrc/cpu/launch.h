// Threads and dtypes, the common start of all CPU kernels.

#pragma once

#include "../abi.h"
#include "vec.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace tux {

// Runs job(begin, end) -> code over [0, count), in equal contiguous parts, on threads if there is enough work. The results do not
// depend on the parts.
template <class Job> int parallel_planes(int64_t count, int64_t work_per_item, Job job) {
    if (count <= 0 || work_per_item <= 0) return TUX_OK;
#ifdef _OPENMP
    int64_t threads = omp_in_parallel() ? 1 : omp_get_max_threads(), useful = count * work_per_item / 16384 + 1;
    threads = threads < useful ? threads : useful;
    threads = threads < count ? threads : count;
    if (threads > 1) {
        int result = TUX_OK;
        #pragma omp parallel num_threads(threads)
        {
            int64_t t = omp_get_thread_num(), n = omp_get_num_threads();
            int code = job(count * t / n, count * (t + 1) / n);
            if (code != TUX_OK) {
                #pragma omp critical
                result = code;
            }
        }
        return result;
    }
#endif
    return job(0, count);
}

// f(condition as a compile-time constant).
template <class F> TUX_INLINE auto choose(bool condition, F f) { return condition ? f(std::true_type{}) : f(std::false_type{}); }

// Whether an output of `count` values, written in rows of `row`, bypasses the caches. A large output would displace their content
// and be displaced before it is read. Only whole vectors at aligned addresses can bypass them.
template <class T> bool streams(const T* to, int64_t count, int64_t row) {
    const int64_t L = lanes<arithmetic_t<T>>::count, large = 2 << 20;
    return count * (int64_t)sizeof(T) >= large && row % L == 0 && (uintptr_t)to % (L * sizeof(T)) == 0;
}

// to[i] = value(i, lanes from i on) for i < count, several vectors at a time, so that whole cache lines are written at once.
template <bool STREAMED, class T, class Value> TUX_INLINE void write_row(T* to, int64_t count, Value value) {
    typedef arithmetic_t<T> A;
    const int L = lanes<A>::count, B = 2;
    int64_t i = 0;
    for (; i + B * L <= count; i += B * L) {
        vec<A> v[B];
        TUX_UNROLL
        for (int j = 0; j < B; j++) v[j] = value(i + j * L, L);
        TUX_UNROLL
        for (int j = 0; j < B; j++) write<STREAMED>(to + i + j * L, v[j]);
    }
    for (; i + L <= count; i += L) write<STREAMED>(to + i, value(i, L));
    if (i < count) store_part(to + i, value(i, count - i), (int)(count - i));
}

}  // namespace tux

#define TUX_DISPATCH(dtype, ...)                                                    \
    switch (dtype) {                                                                \
        case TUX_F32: { typedef float T; __VA_ARGS__; }                             \
        case TUX_F16: { typedef tux::half T; __VA_ARGS__; }                         \
        case TUX_BF16: { typedef tux::bfloat T; __VA_ARGS__; }                      \
        case TUX_F64: { typedef double T; __VA_ARGS__; }                            \
        default: return TUX_BAD_DTYPE;                                              \
    }
