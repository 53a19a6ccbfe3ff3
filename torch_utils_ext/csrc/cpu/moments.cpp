// The moments of a batch norm's input, and the part of its gradient that comes of them. See abi_cpu.h.

#include "abi_cpu.h"
#include "launch.h"

namespace tux {

// The sum of value(i, lanes from i on) for i < count, in parts whose sums are double.
template <class A, class Value> TUX_INLINE double sum_of(int64_t count, Value value) {
    const int L = lanes<A>::count, B = 4;
    const int64_t part = 1024;
    double sum = 0;
    for (int64_t from = 0; from < count; from += part) {
        const int64_t to = count - from < part ? count : from + part;
        vec<A> sums[B] = {};
        int64_t i = from;
        for (; i + B * L <= to; i += B * L)
            TUX_UNROLL
            for (int b = 0; b < B; b++) sums[b] += value(i + b * L, L);
        for (; i < to; i += L) sums[0] += value(i, to - i);
        sum += sum_lanes<A>((sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
    return sum;
}

// get(), where the lanes that do not exist have a value.
template <class T> TUX_INLINE vec<arithmetic_t<T>> get_or(const T* p, int64_t n, arithmetic_t<T> other) {
    typedef arithmetic_t<T> A;
    vec<A> v = get(p, n);
    for (int64_t l = n; l < lanes<A>::count; l++) v[l] = other;
    return v;
}

template <class T> int moments(const T* x, void* mean_, void* squares_, int64_t planes, int64_t HW) {
    typedef arithmetic_t<T> A;
    A *mean = (A*)mean_, *squares = (A*)squares_;
    return parallel_planes(planes, 2 * HW, [&](int64_t begin, int64_t end) {
        for (int64_t j = begin; j < end; j++) {
            const T* p = x + j * HW;
            const A m = A(sum_of<A>(HW, [&](int64_t i, int64_t left) { read_ahead(p + i); return get(p + i, left); }) / HW);
            mean[j] = m;
            squares[j] = A(sum_of<A>(HW, [&](int64_t i, int64_t left) {
                vec<A> d = get_or(p + i, left, m) - m;
                return d * d;
            }));
        }
        return TUX_OK;
    });
}

template <class T>
int norm_gradient(const T* v, const T* x, const void* factor, const void* constant, T* gx, int64_t N, int64_t C, int64_t HW) {
    typedef arithmetic_t<T> A;
    return parallel_planes(N * C, 3 * HW, [&](int64_t begin, int64_t end) {
        choose(streams(gx, N * C * HW, HW), [&](auto streamed) {
            for (int64_t j = begin; j < end; j++) {
                const vec<A> a = splat<A>(((const A*)factor)[j % C]), b = splat<A>(((const A*)constant)[j % C]);
                const T *p = v + j * HW, *q = x + j * HW;
                write_row<streamed()>(gx + j * HW, HW, [&](int64_t i, int64_t left) {
                    if (streamed()) read_ahead(p + i), read_ahead(q + i);
                    return get(p + i, left) + (get(q + i, left) * a + b);
                });
            }
        });
        return TUX_OK;
    });
}

}  // namespace tux

extern "C" {

int tux_moments(int dtype, const void* x, void* mean, void* squares, int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::moments<T>((const T*)x, mean, squares, N * C, H * W));
}

int tux_norm_gradient(int dtype, const void* v, const void* x, const void* factor, const void* constant, void* gx,
                      int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::norm_gradient<T>((const T*)v, (const T*)x, factor, constant, (T*)gx, N, C, H * W));
}

}  // extern "C"
