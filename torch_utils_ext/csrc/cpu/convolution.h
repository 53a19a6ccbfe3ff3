// Convolution of many channels by Winograd's minimal filtering, for the filters of minimal_filters.h: forward, transpose and the
// gradient of the weights.
//
// Each function is a product of matrices for each pair of coefficients (row, column) of a tile. A lane holds a channel. In memory,
// coefficients are [pair][group of channels][tile][lane], and kernels [kernel][group of channels][row of the matrix][lane]. An image
// x that is split into phases has a group for each phase of a group of channels.

#pragma once

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
// The sizes of one call. x: [N, I, H, W], the large image where the sizes differ; y: [N, O, H / scale, W / scale]; w: [O, I, size, size].

template <class T, class F> struct convolution {
    typedef arithmetic_t<T> A;
    typedef vec<A> V;
    static const int L = lanes<A>::count, R = product_rows < L ? product_rows : L, G = product_groups;
    static const int C = F::coefficients, K = F::kernels, pairs = C * C, size = F::size, weights = size * size;
    static const int D = F::phases, phases = D * D;

    // A part of the kernels, in groups of lanes and of rows.
    struct block { int64_t lanes, rows; };

    int64_t N, I, O, H, W, h, w, Ig, Og, Xg, tiles_y, tiles_x, tiles, batch, rows, x_step, y_step;
    block to_y, to_x;                               // of the products whose lanes are channels of y, and of x
    const double* taps;
    A *kernels, *of_x, *of_y;                       // the workspace

    convolution(int64_t N, int64_t I, int64_t O, int64_t H, int64_t W, const double* taps, void* workspace)
        : N(N), I(I), O(O), H(H), W(W), h(H / F::scale), w(W / F::scale), Ig((I + L - 1) / L), Og((O + L - 1) / L), Xg(phases * Ig),
          taps(taps) {
        tiles_y = (h + 3) / 4, tiles_x = (w + 3) / 4, tiles = tiles_y * tiles_x;
        const int64_t of_sample = pairs * (Xg + Og) * L * tiles, most = (24 << 20) / (int64_t)sizeof(A);
        batch = most / of_sample < 1 ? 1 : most / of_sample < N ? most / of_sample : N;
        rows = (batch * tiles + R - 1) / R * R;
        // Between pairs. A line more, because a power of two would map all pairs to the same places in a cache.
        x_step = (Xg * rows + 1) * L, y_step = (Og * rows + 1) * L;
        to_y = block_of(Og, G, Xg, phases), to_x = block_of(Xg, G * phases, Og, 1);
        kernels = (A*)workspace;
        of_x = kernels + kernel_numbers();
        of_y = of_x + pairs * x_step;
    }

    int64_t workspace() const { return (kernel_numbers() + pairs * (x_step + y_step)) * (int64_t)sizeof(A); }

    // Kernels are made and used a block at a time, which the second-level cache holds; all at once where they serve more than one
    // batch.
    block block_of(int64_t lane_groups, int64_t lane_step, int64_t row_groups, int64_t row_step) const {
        if (batch < N) return {lane_groups, row_groups};
        const int64_t most = (1 << 20) / (int64_t)sizeof(A) / (K * K * L * L);
        int64_t lanes = most / row_groups / lane_step * lane_step;
        lanes = lanes > lane_step ? lanes : lane_step;
        lanes = lanes < lane_groups ? lanes : lane_groups;
        int64_t part = most / lanes / row_step * row_step;
        part = part > row_step ? part : row_step;
        return {lanes, part < row_groups ? part : row_groups};
    }

    static int64_t numbers(const block& b) { return K * K * b.lanes * b.rows * L * L; }
    int64_t kernel_numbers() const { return numbers(to_y) > numbers(to_x) ? numbers(to_y) : numbers(to_x); }

    // job(first group of lanes, first of rows, sizes) for all blocks.
    template <class Job> static int each_block(const block& b, int64_t lane_groups, int64_t row_groups, Job job) {
        int code = TUX_OK;
        for (int64_t lane = 0; lane < lane_groups; lane += b.lanes)
            for (int64_t row = 0; row < row_groups && code == TUX_OK; row += b.rows)
                code = job(lane, row, block{lane_groups - lane < b.lanes ? lane_groups - lane : b.lanes,
                                            row_groups - row < b.rows ? row_groups - row : b.rows});
        return code;
    }

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

    void clear_rows_without_tile(int64_t samples, int64_t groups, int64_t step, A* to) const {
        for (int64_t j = 0; j < pairs * groups; j++)
            cells<A>::zero(to + j / groups * step + (j % groups * rows + samples * tiles) * L, rows - samples * tiles);
    }

    int analyse_x(const T* x, int64_t samples) const {
        clear_rows_without_tile(samples, Xg, x_step, of_x);
        return each_plane(samples, Ig, [&](int64_t n, int64_t group, cells<A>& plane) {
            F::read(plane, planes<const T>(x + (n * I + group * L) * H * W, I - group * L, H, W), taps);
            each_tile(n, group * phases, plane, F::step, of_x, [&](const A* cell, A* to) {
                for (int p = 0; p < phases; p++)
                    to_coefficients<F::samples, C>(cell + p / D * plane.stride + p % D * L, D * plane.stride, D * L, to + p * rows * L,
                                                   x_step, [](const V* p, int s, V* q, int d) { F::analyse(p, s, q, d); });
            });
        });
    }

    int spread_y(const T* y, int64_t samples) const {
        clear_rows_without_tile(samples, Og, y_step, of_y);
        return each_plane(samples, Og, [&](int64_t n, int64_t group, cells<A>& plane) {
            plane.read(planes<const T>(y + (n * O + group * L) * h * w, O - group * L, h, w), 0);
            each_tile(n, group, plane, 4, of_y, [&](const A* cell, A* to) {
                to_coefficients<4, C>(cell, plane.stride, L, to, y_step,
                                      [](const V* p, int s, V* q, int d) { F::spread(p, s, q, d); });
            });
        });
    }

    int synthesise_y(T* y, int64_t samples) const {
        return each_plane(samples, Og, [&](int64_t n, int64_t group, cells<A>& plane) {
            each_tile(n, group, plane, 4, of_y, [&](A* cell, const A* from) {
                to_cells<C, 4, false>(from, y_step, cell, plane.stride, L,
                                      [](const V* p, int s, V* q, int d) { F::synthesise(p, s, q, d); });
            });
            plane.write(planes<T>(y + (n * O + group * L) * h * w, O - group * L, h, w), 0);
        });
    }

    int adjoint_x(T* x, int64_t samples) const {    // of analyse_x
        return each_plane(samples, Ig, [&](int64_t n, int64_t group, cells<A>& plane) {
            plane.clear();
            each_tile(n, group * phases, plane, F::step, of_x, [&](A* cell, const A* from) {
                for (int p = 0; p < phases; p++)
                    to_cells<C, F::samples, true>(from + p * rows * L, x_step, cell + p / D * plane.stride + p % D * L,
                                                  D * plane.stride, D * L,
                                                  [](const V* p, int s, V* q, int d) { F::analyse_adjoint(p, s, q, d); });
            });
            F::write(plane, planes<T>(x + (n * I + group * L) * H * W, I - group * L, H, W), taps);
        });
    }

    // The weights of L lanes, `stride` apart, a vector for each weight.
    static TUX_INLINE void load_weights(const T* from, int64_t stride, int64_t count, const T* end, bool turned, V* to) {
        for (int c = 0; c < weights; c += L) {
            V v[L];
            for (int l = 0; l < L; l++) {
                const T* p = from + l * stride + c;
                v[l] = l >= count ? V{} : p + L <= end ? load(p) : get(p, weights - c);
            }
            transpose<A>(v);
            for (int i = 0; i < L && c + i < weights; i++) to[turned ? weights - 1 - c - i : c + i] = v[i];
        }
    }

    static TUX_INLINE int weight_of(int phase, int v, int u) { return (phase / D + D * v) * size + phase % D + D * u; }

    // A block of the kernels of a product from P to Q channels, of weights [Q, P, size, size], or [P, Q, size, size] that may be
    // turned by 180 degrees. Lanes are channels of the result, rows those of the factor; x_lanes: lanes are those of x.
    int transform_kernels(const T* w, int64_t P, int64_t Q, bool swapped, bool x_lanes, int64_t lane, int64_t row, const block& b) const {
        const int64_t row_stride = weights * (swapped ? Q : 1), lane_stride = weights * (swapped ? 1 : P), step = b.lanes * b.rows * L * L;
        const int lane_phases = x_lanes ? phases : 1, row_phases = x_lanes ? 1 : phases, taps = size / D;
        const int64_t row_groups = b.rows / row_phases;
        return parallel_planes(b.lanes / lane_phases * row_groups, weights * L * L, [&](int64_t begin, int64_t end) {
            for (int64_t j = begin; j < end; j++) {
                const int64_t lane_group = j / row_groups, row_group = j % row_groups, first = (row / row_phases + row_group) * L;
                const int64_t q = (lane / lane_phases + lane_group) * L;
                for (int64_t r = 0; r < L; r++) {
                    V of_lanes[weights] = {};
                    if (first + r < P)
                        load_weights(w + (first + r) * row_stride + q * lane_stride, lane_stride, Q - q, w + P * Q * weights,
                                     swapped && F::turns, of_lanes);
                    for (int p = 0; p < phases; p++) {
                        V half[taps * K];
                        for (int v = 0; v < taps; v++) {
                            V in[taps];
                            for (int u = 0; u < taps; u++) in[u] = of_lanes[weight_of(p, v, u)];
                            F::kernel(in, 1, half + v * K, 1);
                        }
                        const int64_t to_lane = lane_group * lane_phases + (x_lanes ? p : 0);
                        const int64_t to_row = (row_group * row_phases + (x_lanes ? 0 : p)) * L + r;
                        A* to = kernels + (to_lane * b.rows * L + to_row) * L;
                        for (int k = 0; k < K; k++) {
                            V out[K];
                            F::kernel(half + k, K, out, 1);
                            for (int i = 0; i < K; i++) store(to + (i * K + k) * step, out[i]);
                        }
                    }
                }
            }
            return TUX_OK;
        });
    }

    // Its adjoint, for lanes of x.
    int gather_kernels(T* gw, int64_t lane, int64_t row, const block& b) const {
        const int64_t outputs = O - row * L < b.rows * L ? O - row * L : b.rows * L, step = b.lanes * b.rows * L * L;
        return parallel_planes(outputs * (b.lanes / phases), K * K * L, [&](int64_t begin, int64_t end) {
            for (int64_t j = begin; j < end; j++) {
                const int64_t o = j % outputs, group = j / outputs, first = (lane / phases + group) * L;
                const int taps = size / D;
                V of_lanes[(weights + L - 1) / L * L] = {};
                for (int p = 0; p < phases; p++) {
                    const A* from = kernels + ((group * phases + p) * b.rows * L + o) * L;
                    V in[K], half[taps * K], out[taps];
                    for (int k = 0; k < K; k++) {
                        for (int i = 0; i < K; i++) in[i] = load(from + (i * K + k) * step);
                        F::gather(in, 1, half + k, K);
                    }
                    for (int v = 0; v < taps; v++) {
                        F::gather(half + v * K, 1, out, 1);
                        for (int u = 0; u < taps; u++) of_lanes[weight_of(p, v, u)] = out[u];
                    }
                }
                for (int c = 0; c < weights; c += L) {
                    transpose<A>(of_lanes + c);
                    for (int64_t l = 0; l < L && first + l < I; l++)
                        put(gw + ((row * L + o) * I + first + l) * weights + c, of_lanes[c + l], weights - c);
                }
            }
            return TUX_OK;
        });
    }

    static int kernel_of(int pair) { return F::kernel_of(pair / C) * K + F::kernel_of(pair % C); }

    // `to` (+)= `from` times a block of the kernels, for each pair; the first rows replace what `to` holds.
    int multiply_kernels(const A* from, int64_t from_step, A* to, int64_t to_step, int64_t lane, int64_t row, const block& b) const {
        const int64_t panels = (b.lanes + G - 1) / G;
        return parallel_planes(pairs * panels, rows * b.rows * L * G, [&](int64_t begin, int64_t end) {
            for (int64_t j = begin; j < end; j++) {
                const int64_t pair = j / panels, group = j % panels * G, count = b.lanes - group < G ? b.lanes - group : G;
                const A* kernel = kernels + (kernel_of(pair) * b.lanes + group) * b.rows * L * L;
                for (int64_t r = 0; r < rows; r += R)
                    multiply<R>((int)count, from + pair * from_step + (row * rows + r) * L, L, 1, rows * L, b.rows, L, kernel,
                                b.rows * L * L, to + pair * to_step + ((lane + group) * rows + r) * L, rows * L, row > 0);
            }
            return TUX_OK;
        });
    }

    // A block of the kernels (+)= the sum over tiles of products of both.
    int correlate(int64_t samples, bool add, int64_t lane, int64_t row, const block& b) const {
        const int64_t panels = (b.lanes + G - 1) / G;
        return parallel_planes(K * K * panels, rows * b.rows * L * G, [&](int64_t begin, int64_t end) {
            for (int64_t j = begin; j < end; j++) {
                const int64_t kernel = j / panels, group = j % panels * G, count = b.lanes - group < G ? b.lanes - group : G;
                bool more = add;
                for (int pair = 0; pair < pairs; pair++) {
                    if (kernel_of(pair) != kernel) continue;
                    const A* of_lanes = of_x + pair * x_step + (lane + group) * rows * L;
                    for (int64_t o = 0; o < b.rows * L; o += R)
                        multiply<R>((int)count, of_y + pair * y_step + (row + o / L) * rows * L + o % L, 1, L, 0, 1, samples * tiles,
                                    of_lanes, rows * L, kernels + ((kernel * b.lanes + group) * b.rows * L + o) * L, b.rows * L * L, more);
                    more = true;
                }
            }
            return TUX_OK;
        });
    }

    // The functions, a few samples at a time, so that their coefficients stay in the cache.

    template <class Job> int each_batch(Job job) const {
        int code = TUX_OK;
        for (int64_t n = 0; n < N && code == TUX_OK; n += batch) code = job(n, N - n < batch ? N - n : batch);
        return code;
    }

    // The product of a batch. Blocks are of kernels from P to Q channels; with one block, the first batch makes it.
    int multiply_blocks(int64_t n, const T* weight, int64_t P, int64_t Q, bool swapped, bool x_lanes) const {
        return each_block(x_lanes ? to_x : to_y, x_lanes ? Xg : Og, x_lanes ? Og : Xg, [&](int64_t lane, int64_t row, const block& b) {
            int code = n ? TUX_OK : transform_kernels(weight, P, Q, swapped, x_lanes, lane, row, b);
            if (code != TUX_OK) return code;
            return x_lanes ? multiply_kernels(of_y, y_step, of_x, x_step, lane, row, b)
                           : multiply_kernels(of_x, x_step, of_y, y_step, lane, row, b);
        });
    }

    int forward(const T* x, const T* weight, bool swapped, T* y) const {
        return each_batch([&](int64_t n, int64_t samples) {
            int code = analyse_x(x + n * I * H * W, samples);
            if (code == TUX_OK) code = multiply_blocks(n, weight, I, O, swapped, false);
            return code == TUX_OK ? synthesise_y(y + n * O * h * w, samples) : code;
        });
    }

    int transpose_of(const T* y, const T* weight, T* x) const {
        return each_batch([&](int64_t n, int64_t samples) {
            int code = spread_y(y + n * O * h * w, samples);
            if (code == TUX_OK) code = multiply_blocks(n, weight, O, I, true, true);
            return code == TUX_OK ? adjoint_x(x + n * I * H * W, samples) : code;
        });
    }

    int weight_grad(const T* x, const T* g, T* gw) const {
        return each_batch([&](int64_t n, int64_t samples) {
            int code = analyse_x(x + n * I * H * W, samples);
            if (code == TUX_OK) code = spread_y(g + n * O * h * w, samples);
            if (code != TUX_OK) return code;
            return each_block(to_x, Xg, Og, [&](int64_t lane, int64_t row, const block& b) {
                int code = correlate(samples, n > 0, lane, row, b);
                return code == TUX_OK && n + samples == N ? gather_kernels(gw, lane, row, b) : code;
            });
        });
    }
};

}  // namespace tux
