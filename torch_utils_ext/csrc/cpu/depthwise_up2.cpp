// Twofold upsampling with four phase filters, its transpose and the gradient of its filters. See ../abi.h.

#include "../abi.h"
#include "launch.h"
#include "strips.h"

namespace tux {

template <class A> struct phase_filters {
    vec<A> k[4][9];

    TUX_INLINE phase_filters(const A* from, bool flip) {
        for (int p = 0; p < 4; p++)
            for (int t = 0; t < 9; t++) k[p][t] = splat<A>(from[9 * p + (flip ? 8 - t : t)]);
    }
};

// V vectors of one row of x -> the two rows of y above them.
template <int V, class T, class A>
TUX_INLINE void up2_columns(const A* row, int64_t stride, const phase_filters<A>& f, T* y, int64_t W, int64_t i) {
    const int L = lanes<A>::count;
    vec<A> acc[4][V] = {};
    TUX_UNROLL
    for (int t = 0; t < 9; t++) {
        vec<A> x[V];
        TUX_UNROLL
        for (int c = 0; c < V; c++) {
            x[c] = load(row + t / 3 * stride + i + c * L + t % 3 - 1);
            keep(x[c]);
        }
        TUX_UNROLL
        for (int p = 0; p < 4; p++) {
            vec<A> k = f.k[p][t];
            TUX_UNROLL
            for (int c = 0; c < V; c++) acc[p][c] += k * x[c];
        }
    }
    TUX_UNROLL
    for (int a = 0; a < 2; a++)
        TUX_UNROLL
        for (int c = 0; c < V; c++) {
            T* to = y + a * 2 * W + 2 * (i + c * L);
            int64_t left = 2 * (W - i - c * L);
            vec<A> lo, hi;
            interleave<A>(acc[2 * a][c], acc[2 * a + 1][c], &lo, &hi);
            put(to, lo, left);
            if (left > L) put(to + L, hi, left - L);
        }
}

template <class T>
int up2(const T* x, const void* filters, int k_per_sample, T* y, int64_t N, int64_t C, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    const int L = lanes<A>::count;
    const A* k = (const A*)filters;
    int64_t rows = strip<A>::rows_for(H, W);
    return parallel_planes(N * C, 4 * H * W, [&](int64_t begin, int64_t end) {
        strip<A> s = {scratch<A>(strip<A>::cells(rows, W)), strip<A>::stride_for(W)};
        if (!s.data) return TUX_NO_MEMORY;
        for (int64_t n = begin; n < end; n++) {
            phase_filters<A> f(k + (k_per_sample ? n : n % C) * 36, false);
            for (int64_t first = 0; first < H; first += rows) {
                int64_t count = H - first < rows ? H - first : rows;
                stage(x + n * H * W, s, first, count, H, W);
                for (int64_t r = 0; r < count; r++) {
                    T* to = y + (n * H + first + r) * 4 * W;
                    int64_t i = 0;
                    for (; i + L < W; i += 2 * L) up2_columns<2>(s.row(r), s.stride, f, to, W, i);
                    if (i < W) up2_columns<1>(s.row(r), s.stride, f, to, W, i);
                }
            }
        }
        return TUX_OK;
    });
}

//---------------------------------------------------------------------------

template <int R, class T, class A>
TUX_INLINE void transpose_rows(const strip<A>* s, int64_t row, const phase_filters<A>& f, T* gx, int64_t W) {
    for (int64_t i = 0; i < W; i += lanes<A>::count) {
        vec<A> acc[R] = {};
        for (int p = 0; p < 4; p++) {
            vec<A> k[9];
            TUX_UNROLL
            for (int t = 0; t < 9; t++) k[t] = f.k[p][t];
            correlate<R>(s[p].row(row) + i, s[p].stride, 1, k, acc);
        }
        TUX_UNROLL
        for (int r = 0; r < R; r++) put(gx + (row + r) * W + i, acc[r], W - i);
    }
}

// gx where it is wanted, gk where it is.
template <class T>
int up2_backward(const T* x, const void* filters, int k_per_sample, const T* g, T* gx, void* filter_grad,
                 int64_t N, int64_t C, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    const A* k = (const A*)filters;
    A* gk = (A*)filter_grad;
    int64_t rows = strip<A>::rows_for(H, W), cells = strip<A>::cells(rows, W), stride = strip<A>::stride_for(W);
    return parallel_planes(N * C, 5 * H * W, [&](int64_t begin, int64_t end) {
        A* memory = scratch<A>(5 * cells);
        if (!memory) return TUX_NO_MEMORY;
        strip<A> sx = {memory, stride}, sg[4];
        for (int p = 0; p < 4; p++) sg[p] = {memory + (p + 1) * cells, stride};
        const A none[36] = {};
        for (int64_t n = begin; n < end; n++) {
            phase_filters<A> f(gx ? k + (k_per_sample ? n : n % C) * 36 : none, true);
            A total[36] = {};
            for (int64_t first = 0; first < H; first += rows) {
                int64_t count = H - first < rows ? H - first : rows, r = 0;
                stage_phases(g + n * 4 * H * W, sg, first, count, H, W);
                if (gx) {
                    T* to = gx + n * H * W + first * W;
                    for (; r + 4 <= count; r += 4) transpose_rows<4>(sg, r, f, to, W);
                    for (; r < count; r++) transpose_rows<1>(sg, r, f, to, W);
                }
                if (gk) {
                    stage(x + n * H * W, sx, first, count, H, W);
                    for (int p = 0; p < 4; p++) accumulate_strip(sx, sg[p], count, W, total + 9 * p);
                }
            }
            if (gk) memcpy(gk + n * 36, total, sizeof total);
        }
        return TUX_OK;
    });
}

}  // namespace tux

//---------------------------------------------------------------------------

extern "C" {

int tux_depthwise_up2(int dtype, const void* x, const void* k, int k_per_sample, void* y,
                      int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::up2((const T*)x, k, k_per_sample, (T*)y, N, C, H, W));
}

int tux_depthwise_up2_transpose(int dtype, const void* g, const void* k, int k_per_sample, void* gx,
                                int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::up2_backward((const T*)nullptr, k, k_per_sample, (const T*)g, (T*)gx, nullptr, N, C, H, W));
}

int64_t tux_depthwise_up2_weight_grad_workspace(int, int64_t, int64_t, int64_t, int64_t) { return 0; }

int tux_depthwise_up2_weight_grad(int dtype, const void* x, const void* g, void* gk, void*,
                                  int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::up2_backward((const T*)x, nullptr, 0, (const T*)g, (T*)nullptr, gk, N, C, H, W));
}

int tux_depthwise_up2_backward(int dtype, const void* x, const void* k, int k_per_sample, const void* g, void* gx, void* gk,
                               void*, int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::up2_backward((const T*)x, k, k_per_sample, (const T*)g, (T*)gx, gk, N, C, H, W));
}

}  // extern "C"
