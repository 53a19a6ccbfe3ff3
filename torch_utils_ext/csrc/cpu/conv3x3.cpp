// 3x3 convolution of many channels by Winograd's minimal filtering, and the same behind a filter that halves the image. See
// abi_cpu.h and minimal_filters.h.
//
// Each function is a product of matrices for each pair of coefficients (row, column) of a tile. A lane holds a channel. In memory,
// coefficients are [pair][group of channels][tile][lane], and kernels [kernel][group of channels][row of the matrix][lane].

#include "abi_cpu.h"
#include "launch.h"
#include "minimal_filters.h"

namespace tux {

// Rows and vectors of a product that stay in registers.
#if TUX_VECTOR_BYTES == 64 || defined(__aarch64__)
enum { product_rows = 8, product_groups = 3 };
#else
enum { product_rows = 4, product_groups = 3 };
#endif

// c[r] (+)= sum_k sum_i a[r row + i step + k stride] b[k inner + i], for R rows and G groups of lanes of b and c.
template <int R, int G, class A>
void multiply_block(const A* a, int64_t row, int64_t step, int64_t stride, int64_t outer, int64_t inner, const A* b, int64_t b_group,
                    A* c, int64_t c_group, bool add) {
    const int L = lanes<A>::count;
    vec<A> sum[R][G];
    TUX_UNROLL
    for (int r = 0; r < R; r++) {
        TUX_UNROLL
        for (int g = 0; g < G; g++) sum[r][g] = add ? load(c + r * L + g * c_group) : vec<A>{};
    }
    for (int64_t k = 0; k < outer; k++, a += stride) {
        const A* p = a;
        for (int64_t i = 0; i < inner; i++, p += step, b += L) {
            vec<A> other[G];
            TUX_UNROLL
            for (int g = 0; g < G; g++) other[g] = load(b + g * b_group);
            TUX_UNROLL
            for (int r = 0; r < R; r++) {
                vec<A> factor = splat<A>(p[r * row]);
                TUX_UNROLL
                for (int g = 0; g < G; g++) sum[r][g] += factor * other[g];
            }
        }
    }
    TUX_UNROLL
    for (int r = 0; r < R; r++) {
        TUX_UNROLL
        for (int g = 0; g < G; g++) store(c + r * L + g * c_group, sum[r][g]);
    }
}

template <int R, class A, class... Args> TUX_INLINE void multiply(int groups, const A* a, Args... args) {
    if (groups == 1) multiply_block<R, 1, A>(a, args...);
    else if (groups == 2) multiply_block<R, 2, A>(a, args...);
    else multiply_block<R, 3, A>(a, args...);
}

//---------------------------------------------------------------------------
// The sizes of one call. x: [N, I, H, W], the large image where the sizes differ; y: [N, O, H / scale, W / scale]; w: [O, I, 3, 3].

template <class T, class F> struct convolution {
    typedef arithmetic_t<T> A;
    typedef vec<A> V;
    static const int L = lanes<A>::count, R = product_rows < L ? product_rows : L, G = product_groups;
    static const int C = F::coefficients, K = F::kernels, pairs = C * C;

    int64_t N, I, O, H, W, h, w, Ig, Og, tiles_y, tiles_x, tiles, batch, rows;
    const double* taps;
    A *kernels, *of_x, *of_y;                       // the workspace

    convolution(int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, const double* taps, void* workspace)
        : N(N), I(I), O(O), H(H), W(W), h(H / F::scale), w(W / F::scale), Ig((I + L - 1) / L), Og((O + L - 1) / L), taps(taps) {
        tiles_y = (h + 3) / 4, tiles_x = (w + 3) / 4, tiles = tiles_y * tiles_x;
        const int64_t of_sample = pairs * (Ig + Og) * L * tiles, most = (24 << 20) / (int64_t)sizeof(A);
        batch = most / of_sample < 1 ? 1 : most / of_sample < N ? most / of_sample : N;
        rows = (batch * tiles + R - 1) / R * R;
        kernels = (A*)workspace;
        of_x = kernels + K * K * Ig * Og * L * L;
        of_y = of_x + pairs * Ig * rows * L;
    }

    int64_t workspace() const { return (K * K * Ig * Og * L + pairs * (Ig + Og) * rows) * L * (int64_t)sizeof(A); }

    // Images, of x or y, and their coefficients.

    template <class Job> int each_plane(int64_t samples, int64_t groups, Job job) const {
        return parallel_planes(samples * groups, 4 * L * H * W, [&](int64_t begin, int64_t end) {
            cells<A> plane(F::samples_of(tiles_y), F::samples_of(tiles_x));
            if (!plane.data) return (int)TUX_NO_MEMORY;
            for (int64_t j = begin; j < end; j++) job(j / groups, j % groups, plane);
            return (int)TUX_OK;
        });
    }

    // job(the first cell of a tile, its coefficients) for all tiles of a plane.
    template <class Job> TUX_INLINE void each_tile(int64_t n, int64_t group, cells<A>& plane, int64_t step, A* coefficients, Job job) const {
        A* at = coefficients + (group * rows + n * tiles) * L;
        for (int64_t y = 0; y < tiles_y; y++)
            for (int64_t x = 0; x < tiles_x; x++, at += L) job(plane.at(y * step, x * step), at);
    }

    void clear_rows_without_tile(int64_t samples, int64_t groups, A* to) const {
        for (int64_t j = 0; j < pairs * groups; j++) cells<A>::zero(to + (j * rows + samples * tiles) * L, rows - samples * tiles);
    }

    int analyse_x(const T* x, int64_t samples) const {
        clear_rows_without_tile(samples, Ig, of_x);
        return each_plane(samples, Ig, [&](int64_t n, int64_t group, cells<A>& plane) {
            F::read(plane, planes<const T>(x + (n * I + group * L) * H * W, I - group * L, H, W), taps);
            each_tile(n, group, plane, F::step, of_x, [&](const A* cell, A* to) {
                to_coefficients<F::samples, C>(cell, plane.stride, to, Ig * rows * L,
                                               [](const V* p, int s, V* q, int d) { F::analyse(p, s, q, d); });
            });
        });
    }

    int spread_y(const T* y, int64_t samples) const {
        clear_rows_without_tile(samples, Og, of_y);
        return each_plane(samples, Og, [&](int64_t n, int64_t group, cells<A>& plane) {
            plane.read(planes<const T>(y + (n * O + group * L) * h * w, O - group * L, h, w), 0);
            each_tile(n, group, plane, 4, of_y, [&](const A* cell, A* to) {
                to_coefficients<4, C>(cell, plane.stride, to, Og * rows * L,
                                      [](const V* p, int s, V* q, int d) { F::spread(p, s, q, d); });
            });
        });
    }

    int synthesise_y(T* y, int64_t samples) const {
        return each_plane(samples, Og, [&](int64_t n, int64_t group, cells<A>& plane) {
            each_tile(n, group, plane, 4, of_y, [&](A* cell, const A* from) {
                to_cells<C, 4, false>(from, Og * rows * L, cell, plane.stride,
                                      [](const V* p, int s, V* q, int d) { F::synthesise(p, s, q, d); });
            });
            plane.write(planes<T>(y + (n * O + group * L) * h * w, O - group * L, h, w));
        });
    }

    int adjoint_x(T* x, int64_t samples) const {    // of analyse_x
        return each_plane(samples, Ig, [&](int64_t n, int64_t group, cells<A>& plane) {
            plane.clear();
            each_tile(n, group, plane, F::step, of_x, [&](A* cell, const A* from) {
                to_cells<C, F::samples, true>(from, Ig * rows * L, cell, plane.stride,
                                              [](const V* p, int s, V* q, int d) { F::analyse_adjoint(p, s, q, d); });
            });
            F::write(plane, planes<T>(x + (n * I + group * L) * H * W, I - group * L, H, W), taps);
        });
    }

    // The kernels of a product, from Pg to Qg groups of channels, of weights [Q, P, 3, 3], or [P, Q, 3, 3] that may be turned by 180
    // degrees. Lanes are channels of the result, rows those of the factor.
    int transform_kernels(const T* w, int64_t P, int64_t Q, bool swapped) const {
        const int64_t row_groups = (P + L - 1) / L, row_stride = 9 * (swapped ? Q : 1);
        const int64_t lane_groups = (Q + L - 1) / L, lane_stride = 9 * (swapped ? 1 : P);
        const int64_t step = lane_groups * row_groups * L * L;
        const bool turned = swapped && F::turns;
        return parallel_planes(lane_groups * row_groups, 9 * L * L, [&](int64_t begin, int64_t end) {
            for (int64_t j = begin; j < end; j++) {
                const int64_t lane = j / row_groups * L, row = j % row_groups * L;
                const int64_t count = Q - lane < L ? Q - lane : L;
                for (int64_t r = row; r < row + L; r++) {
                    A weights[9][L] = {};
                    if (r < P)
                        for (int64_t l = 0; l < count; l++)
                            for (int v = 0; v < 9; v++)
                                weights[v][l] = load_one(w + r * row_stride + (lane + l) * lane_stride + (turned ? 8 - v : v));
                    V in[9], half[3 * K];
                    for (int v = 0; v < 9; v++) in[v] = load(weights[v]);
                    for (int v = 0; v < 3; v++) F::kernel(in + 3 * v, 1, half + v * K, 1);
                    A* to = kernels + (j / row_groups * row_groups * L + r) * L;
                    for (int k = 0; k < K; k++) {
                        V out[K];
                        F::kernel(half + k, K, out, 1);
                        for (int i = 0; i < K; i++) write<sizeof(V) == 64>(to + (i * K + k) * step, out[i]);    // whole lines
                    }
                }
            }
            return TUX_OK;
        });
    }

    // Its adjoint; lanes are channels of x, rows are those of y.
    int gather_kernels(T* gw) const {
        return parallel_planes(O * Ig, 36 * L, [&](int64_t begin, int64_t end) {
            for (int64_t j = begin; j < end; j++) {
                const int64_t o = j % O, group = j / O, count = I - group * L < L ? I - group * L : L;
                const A* from = kernels + (group * Og * L + o) * L;
                V in[K], half[3 * K], out[9];
                for (int k = 0; k < K; k++) {
                    for (int i = 0; i < K; i++) in[i] = load(from + (i * K + k) * Ig * Og * L * L);
                    F::gather(in, 1, half + k, K);
                }
                for (int v = 0; v < 3; v++) F::gather(half + v * K, 1, out + 3 * v, 1);
                for (int64_t l = 0; l < count; l++)
                    for (int v = 0; v < 9; v++) store_one(gw + (o * I + group * L + l) * 9 + v, out[v][l]);
            }
            return TUX_OK;
        });
    }

    static int kernel_of(int pair) { return F::kernel_of(pair / C) * K + F::kernel_of(pair % C); }

    // `to` = `from` times the kernels, for each pair.
    int multiply_kernels(const A* from, int64_t from_groups, A* to, int64_t to_groups) const {
        const int64_t panels = (to_groups + G - 1) / G;
        return parallel_planes(pairs * panels, rows * from_groups * L * G, [&](int64_t begin, int64_t end) {
            for (int64_t j = begin; j < end; j++) {
                const int64_t pair = j / panels, group = j % panels * G, count = to_groups - group < G ? to_groups - group : G;
                const A* b = kernels + (kernel_of(pair) * to_groups + group) * from_groups * L * L;
                for (int64_t r = 0; r < rows; r += R)
                    multiply<R>((int)count, from + (pair * from_groups * rows + r) * L, L, 1, rows * L, from_groups, L, b,
                                from_groups * L * L, to + ((pair * to_groups + group) * rows + r) * L, rows * L, false);
            }
            return TUX_OK;
        });
    }

    // The kernels (+)= the sum over tiles of products of both.
    int correlate(int64_t samples, bool add) const {
        const int64_t panels = (Ig + G - 1) / G;
        return parallel_planes(K * K * panels, rows * Og * L * G, [&](int64_t begin, int64_t end) {
            for (int64_t j = begin; j < end; j++) {
                const int64_t kernel = j / panels, group = j % panels * G, count = Ig - group < G ? Ig - group : G;
                bool more = add;
                for (int pair = 0; pair < pairs; pair++) {
                    if (kernel_of(pair) != kernel) continue;
                    const A* b = of_x + (pair * Ig + group) * rows * L;
                    for (int64_t o = 0; o < Og * L; o += R)
                        multiply<R>((int)count, of_y + ((pair * Og + o / L) * rows) * L + o % L, 1, L, 0, 1, samples * tiles, b,
                                    rows * L, kernels + ((kernel * Ig + group) * Og * L + o) * L, Og * L * L, more);
                    more = true;
                }
            }
            return TUX_OK;
        });
    }

    // The functions, a few samples at a time, so that their coefficients stay in the cache.

    int forward(const T* x, const T* weight, bool swapped, T* y) const {
        int code = transform_kernels(weight, I, O, swapped);
        for (int64_t n = 0; n < N && code == TUX_OK; n += batch) {
            const int64_t samples = N - n < batch ? N - n : batch;
            code = analyse_x(x + n * I * H * W, samples);
            if (code == TUX_OK) code = multiply_kernels(of_x, Ig, of_y, Og);
            if (code == TUX_OK) code = synthesise_y(y + n * O * h * w, samples);
        }
        return code;
    }

    int transpose(const T* y, const T* weight, T* x) const {
        int code = transform_kernels(weight, O, I, true);
        for (int64_t n = 0; n < N && code == TUX_OK; n += batch) {
            const int64_t samples = N - n < batch ? N - n : batch;
            code = spread_y(y + n * O * h * w, samples);
            if (code == TUX_OK) code = multiply_kernels(of_y, Og, of_x, Ig);
            if (code == TUX_OK) code = adjoint_x(x + n * I * H * W, samples);
        }
        return code;
    }

    int weight_grad(const T* x, const T* g, T* gw) const {
        int code = TUX_OK;
        for (int64_t n = 0; n < N && code == TUX_OK; n += batch) {
            const int64_t samples = N - n < batch ? N - n : batch;
            code = analyse_x(x + n * I * H * W, samples);
            if (code == TUX_OK) code = spread_y(g + n * O * h * w, samples);
            if (code == TUX_OK) code = correlate(samples, n > 0);
        }
        return code == TUX_OK ? gather_kernels(gw) : code;
    }
};

}  // namespace tux

//---------------------------------------------------------------------------
// Without resampling, the transpose is a convolution too, from the channels O to I.

#define TUX_SAME(I, O) tux::convolution<T, tux::same_size>(N, I, O, H, W, nullptr, workspace)
#define TUX_HALF tux::convolution<T, tux::half_size>(N, I, O, H, W, taps, workspace)

extern "C" {

int64_t tux_conv3x3_workspace(int dtype, int64_t N, int64_t I, int64_t O, int64_t H, int64_t W) {
    void* workspace = nullptr;
    TUX_DISPATCH(dtype, return TUX_SAME(I, O).workspace());
}

int tux_conv3x3(int dtype, const void* x, const void* w, int transposed, void* y, void* workspace,
                int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return (transposed ? TUX_SAME(O, I) : TUX_SAME(I, O)).forward((const T*)x, (const T*)w, transposed, (T*)y));
}

int tux_conv3x3_weight_grad(int dtype, const void* x, const void* g, void* gw, void* workspace,
                            int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_SAME(I, O).weight_grad((const T*)x, (const T*)g, (T*)gw));
}

int64_t tux_conv3x3_down2_workspace(int dtype, int64_t N, int64_t I, int64_t O, int64_t H, int64_t W) {
    void* workspace = nullptr;
    const double* taps = nullptr;
    TUX_DISPATCH(dtype, return TUX_HALF.workspace());
}

int tux_conv3x3_down2(int dtype, const void* x, const void* w, const double* taps, void* y, void* workspace,
                      int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_HALF.forward((const T*)x, (const T*)w, false, (T*)y));
}

int tux_conv3x3_down2_transpose(int dtype, const void* y, const void* w, const double* taps, void* x, void* workspace,
                                int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_HALF.transpose((const T*)y, (const T*)w, (T*)x));
}

int tux_conv3x3_down2_weight_grad(int dtype, const void* x, const void* g, const double* taps, void* gw, void* workspace,
                                  int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return TUX_HALF.weight_grad((const T*)x, (const T*)g, (T*)gw));
}

}  // extern "C"
