// Twofold upsampling with four phase filters, its transpose and the gradient of its filters. See ../abi.h.

#include "../abi.h"
#include "narrow_planes.h"
#include "launch.h"
#include "rows.h"
#include "strips.h"

namespace tux {

// R rows of x -> 2 R rows of y, at the columns of one vector of x.
template <bool STREAMED, int WHERE, int R, class T, class A = arithmetic_t<T>>
TUX_INLINE void up2_vector(const window<R, T>& x, int64_t i, const vec<A>* k, T* y, int64_t W) {
    const int L = lanes<A>::count;
    vec<A> seen[R + 2][3];
    TUX_UNROLL
    for (int j = 0; j < R + 2; j++)
        TUX_UNROLL
        for (int v = 0; v < 3; v++) seen[j][v] = tap<WHERE>(x.row[j] + i, v);
    for (int a = 0; a < 2; a++) {
        vec<A> acc[2][R] = {};
        TUX_UNROLL
        for (int b = 0; b < 2; b++) {
            vec<A> kp[9];
            TUX_UNROLL
            for (int t = 0; t < 9; t++) kp[t] = k[9 * (2 * a + b) + t];
            correlate<R, A>([&](int j, int v) { return seen[j][v]; }, kp, acc[b]);
        }
        TUX_UNROLL
        for (int r = 0; r < R; r++) {
            vec<A> lo, hi;
            interleave<A>(acc[0][r], acc[1][r], &lo, &hi);
            T* to = y + (2 * r + a) * 2 * W + 2 * i;
            write<STREAMED>(to, lo);
            write<STREAMED>(to + L, hi);
        }
    }
}

template <class T>
int up2_wide(const T* x, filters_of<arithmetic_t<T>, 36> f, T* y, bool streamed, int64_t begin, int64_t end, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    const T* zeros = scratch<T>(W);
    if (!zeros) return TUX_NO_MEMORY;
    choose(streamed, [&](auto streamed) {
        for (int64_t p = begin; p < end; p++) {
            vec<A> k[36];
            f.splat_to(p, k);
            const T* plane = x + p * H * W;
            each_block(0, H, [&](int64_t r, auto rows) {
                window<rows(), T> seen(plane, zeros, r, H, W);
                T* to = y + (p * H + r) * 4 * W;
                each_vector<A>(W, [&](int64_t i, auto where) {
                    ask_ahead<rows()>(seen.row[1], i);
                    up2_vector<streamed(), where(), rows(), T>(seen, i, k, to, W);
                });
            });
        }
    });
    return TUX_OK;
}

// gx and gk, each if it is wanted. The phases of g are staged separately, so that a vector holds neighbours.
template <class T>
int up2_backward_wide(const T* x, filters_of<arithmetic_t<T>, 36> f, const T* g, T* gx, arithmetic_t<T>* gk,
                      int64_t begin, int64_t end, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    int64_t rows = strip<A>::rows_for(H, W), cells = strip<A>::cells(rows, W), stride = strip<A>::stride_for(W);
    A* memory = scratch<A>(5 * cells);
    if (!memory) return TUX_NO_MEMORY;
    strip<A> sx = {memory, stride}, sg[4];
    for (int p = 0; p < 4; p++) sg[p] = {memory + (p + 1) * cells, stride};
    for (int64_t n = begin; n < end; n++) {
        vec<A> k[36], sum[36] = {};
        if (gx) f.splat_to(n, k);
        for (int64_t first = 0; first < H; first += rows) {
            int64_t count = H - first < rows ? H - first : rows;
            stage_phases(g + n * 4 * H * W, sg, first, count, H, W);
            if (gx) each_block(0, count, [&](int64_t r, auto rows) {
                for (int64_t i = 0; i < W; i += lanes<A>::count) {
                    vec<A> acc[rows()] = {};
                    for (int p = 0; p < 4; p++) {
                        vec<A> kp[9];
                        TUX_UNROLL
                        for (int t = 0; t < 9; t++) kp[t] = k[9 * p + t];
                        correlate<rows(), A>([&](int j, int v) { return load(sg[p].row(r + j) + i + v - 1); }, kp, acc);
                    }
                    TUX_UNROLL
                    for (int j = 0; j < rows(); j++) put(gx + (n * H + first + r + j) * W + i, acc[j], W - i);
                }
            });
            if (!gk) continue;
            stage(x + n * H * W, sx, first, count, H, W);
            for (int p = 0; p < 4; p++) accumulate_strip(sx, sg[p], count, W, sum + 9 * p);
        }
        if (gk) for (int t = 0; t < 36; t++) gk[n * 36 + t] = sum_lanes<A>(sum[t]);
    }
    return TUX_OK;
}

//---------------------------------------------------------------------------
// Planes narrower than a vector. Every phase of y and g is processed as an image.

template <class T>
int up2_narrow(const T* x, filters_of<arithmetic_t<T>, 36> f, T* y, const T* g, T* gx, arithmetic_t<T>* gk,
               int64_t begin, int64_t end, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    const int L = lanes<A>::count;
    int64_t small = image<A>::size(H, W, 1), large = image<A>::size(2 * H, 2 * W, 2), plain = image<A>::size(H, W, 0);
    A* memory = scratch<A>(small + large + plain + 36 * L);
    if (!memory) return TUX_NO_MEMORY;
    image<A> xs = {memory, H, W, 1}, big = {memory + small, 2 * H, 2 * W, 2}, out = {memory + small + large, H, W, 0};
    image<A> taps = {memory + small + large + plain, 6, 6, 0};
    auto pixels = [](auto* t, int64_t size) { return [=](int64_t p) { return t + p * size; }; };
    for (int64_t n = begin; n < end; n += L) {
        vec<A> k[36], sum[36] = {};
        if (x) gather(narrow_planes<const T>(n, end, pixels(x, H * W)), xs);
        if (g) gather(narrow_planes<const T>(n, end, pixels(g, 4 * H * W)), big);
        if (y || gx) {
            gather(narrow_planes<const A>(n, end, [&](int64_t i) { return f.of(i); }), taps);
            for (int t = 0; t < 36; t++) k[t] = load(taps.data + f.tap(t) * L);
        }
        for (int p = 0; p < 4; p++) {
            view<A> phase(big, p / 2, p % 2);
            if (y) correlate_cells<false, A>(xs, k + 9 * p, phase);
            if (gx && p == 0) correlate_cells<false, A>(phase, k, out);
            if (gx && p > 0) correlate_cells<true, A>(phase, k + 9 * p, out);
            if (gk) accumulate_cells<A>(xs, phase, sum + 9 * p);
        }
        if (y) scatter(big, narrow_planes<T>(n, end, pixels(y, 4 * H * W)));
        if (gx) scatter(out, narrow_planes<T>(n, end, pixels(gx, H * W)));
        if (gk) {
            for (int t = 0; t < 36; t++) store(taps.data + t * L, sum[t]);
            scatter(taps, narrow_planes<A>(n, end, pixels(gk, 36)));
        }
    }
    return TUX_OK;
}

//---------------------------------------------------------------------------

template <class T>
int up2(const T* x, const void* k, int k_per_sample, T* y, int64_t N, int64_t C, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    filters_of<A, 36> f = {(const A*)k, C, k_per_sample != 0, false};
    return parallel_planes(N * C, 4 * H * W, [&](int64_t begin, int64_t end) {
        if (W < lanes<A>::count) return up2_narrow(x, f, y, (const T*)nullptr, (T*)nullptr, (A*)nullptr, begin, end, H, W);
        return up2_wide(x, f, y, streams(y, 4 * N * C * H * W, W), begin, end, H, W);
    });
}

template <class T>
int up2_backward(const T* x, const void* k, int k_per_sample, const T* g, T* gx, void* gk, int64_t N, int64_t C, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    filters_of<A, 36> f = {(const A*)k, C, k_per_sample != 0, true};
    return parallel_planes(N * C, 5 * H * W, [&](int64_t begin, int64_t end) {
        if (W < lanes<A>::count) return up2_narrow(x, f, (T*)nullptr, g, gx, (A*)gk, begin, end, H, W);
        return up2_backward_wide(x, f, g, gx, (A*)gk, begin, end, H, W);
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
