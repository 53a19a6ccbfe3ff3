// Depthwise 3x3: forward, filter gradient, both gradients at once. See ../abi.h for their definitions.

#include "../abi.h"
#include "narrow_planes.h"
#include "launch.h"
#include "rows.h"

namespace tux {

//---------------------------------------------------------------------------
// Planes at least a vector wide.

template <class T>
int forward_wide(const T* x, filters_of<arithmetic_t<T>, 9> f, T* y, bool streamed, int64_t begin, int64_t end, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    const T* zeros = scratch<T>(W);
    if (!zeros) return TUX_NO_MEMORY;
    choose(streamed, [&](auto streamed) {
        for (int64_t p = begin; p < end; p++) {
            vec<A> k[9];
            f.splat_to(p, k);
            const T* plane = x + p * H * W;
            each_block(0, H, [&](int64_t r, auto rows) {
                correlate_block<streamed()>(window<rows(), T>(plane, zeros, r, H, W), k, y + (p * H + r) * W, W);
            });
        }
    });
    return TUX_OK;
}

// Goes through bands of rows that stay in the first-level cache for both gradients.
template <class T>
int backward_wide(const T* x, filters_of<arithmetic_t<T>, 9> f, const T* g, T* gx, bool streamed, arithmetic_t<T>* gk, int64_t begin, int64_t end,
                  int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    const T* zeros = scratch<T>(W);
    if (!zeros) return TUX_NO_MEMORY;
    int64_t band = 8192 / (W * (int64_t)sizeof(T)) / block_rows * block_rows;
    band = band > block_rows ? band : block_rows;
    const mask<A> last = last_lanes<A>(W);
    choose(streamed, [&](auto streamed) {
        for (int64_t p = begin; p < end; p++) {
            const T *xp = x + p * H * W, *gp = g + p * H * W;
            vec<A> k[9], sum[9] = {};
            if (gx) f.splat_to(p, k);
            for (int64_t from = 0; from < H; from += band) {
                int64_t to = from + band < H ? from + band : H;
                if (gx) each_block(from, to, [&](int64_t r, auto rows) {
                    correlate_block<streamed()>(window<rows(), T>(gp, zeros, r, H, W), k, gx + (p * H + r) * W, W);
                });
                each_block(from, to, [&](int64_t r, auto rows) {
                    accumulate_block(window<rows(), T>(xp, zeros, r, H, W), gp + r * W, last, sum, W);
                });
            }
            for (int t = 0; t < 9; t++) gk[p * 9 + t] = sum_lanes<A>(sum[t]);
        }
    });
    return TUX_OK;
}

//---------------------------------------------------------------------------
// Narrower planes. y = x correlated with the filters and, if there is a g, gk = its products with x.

template <class T>
int narrow(const T* x, const T* g, filters_of<arithmetic_t<T>, 9> f, T* y, arithmetic_t<T>* gk, int64_t begin, int64_t end, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    const int L = lanes<A>::count;
    int64_t padded = image<A>::size(H, W, 1), plain = image<A>::size(H, W, 0);
    A* memory = scratch<A>(2 * padded + plain + 9 * L);
    if (!memory) return TUX_NO_MEMORY;
    image<A> xs = {memory, H, W, 1}, gs = {memory + padded, H, W, 1}, ys = {memory + 2 * padded, H, W, 0};
    image<A> taps = {memory + 2 * padded + plain, 3, 3, 0};
    auto pixels = [&](auto* t) { return [=](int64_t p) { return t + p * H * W; }; };
    for (int64_t p = begin; p < end; p += L) {
        if (x) gather(narrow_planes<const T>(p, end, pixels(x)), xs);
        if (g) gather(narrow_planes<const T>(p, end, pixels(g)), gs);
        if (y) {
            vec<A> k[9];
            gather(narrow_planes<const A>(p, end, [&](int64_t i) { return f.of(i); }), taps);
            for (int t = 0; t < 9; t++) k[t] = load(taps.data + f.tap(t) * L);
            correlate_cells<false, A>(g ? gs : xs, k, ys);
            scatter(ys, narrow_planes<T>(p, end, pixels(y)));
        }
        if (gk) {
            vec<A> sum[9] = {};
            accumulate_cells<A>(xs, gs, sum);
            for (int t = 0; t < 9; t++) store(taps.data + t * L, sum[t]);
            scatter(taps, narrow_planes<A>(p, end, [&](int64_t i) { return gk + i * 9; }));
        }
    }
    return TUX_OK;
}

//---------------------------------------------------------------------------

template <class T>
int forward(const T* x, const void* k, int k_per_sample, int flip, T* y, int64_t N, int64_t C, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    filters_of<arithmetic_t<T>, 9> f = {(const A*)k, C, k_per_sample != 0, flip != 0};
    return parallel_planes(N * C, H * W, [&](int64_t begin, int64_t end) {
        if (W < lanes<A>::count) return narrow(x, (const T*)nullptr, f, y, (A*)nullptr, begin, end, H, W);
        return forward_wide(x, f, y, streams(y, N * C * H * W, W), begin, end, H, W);
    });
}

// gk, and gx if it is wanted.
template <class T>
int backward(const T* x, const void* k, int k_per_sample, const T* g, T* gx, void* gk, int64_t N, int64_t C, int64_t H, int64_t W) {
    typedef arithmetic_t<T> A;
    filters_of<arithmetic_t<T>, 9> f = {(const A*)k, C, k_per_sample != 0, true};
    return parallel_planes(N * C, 2 * H * W, [&](int64_t begin, int64_t end) {
        if (W < lanes<A>::count) return narrow(x, g, f, gx, (A*)gk, begin, end, H, W);
        return backward_wide(x, f, g, gx, gx && streams(gx, N * C * H * W, W), (A*)gk, begin, end, H, W);
    });
}

}  // namespace tux

//---------------------------------------------------------------------------

extern "C" {

int tux_depthwise(int dtype, const void* x, const void* k, int k_per_sample, int flip, void* y,
                  int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::forward((const T*)x, k, k_per_sample, flip, (T*)y, N, C, H, W));
}

int64_t tux_depthwise_weight_grad_workspace(int, int64_t, int64_t, int64_t, int64_t) { return 0; }

int tux_depthwise_weight_grad(int dtype, const void* x, const void* g, void* gk, void*,
                              int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::backward((const T*)x, nullptr, 0, (const T*)g, (T*)nullptr, gk, N, C, H, W));
}

int tux_depthwise_backward(int dtype, const void* x, const void* k, int k_per_sample, const void* g, void* gx, void* gk,
                           void*, int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::backward((const T*)x, k, k_per_sample, (const T*)g, (T*)gx, gk, N, C, H, W));
}

}  // extern "C"
