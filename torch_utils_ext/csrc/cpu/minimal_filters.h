// Minimal filtering in one dimension (Winograd; Lavin & Gray 2016), with four outputs for a tile, as struct members:
//
//   analyse, analyse_adjoint      samples <-> coefficients
//   synthesise, spread            coefficients <-> outputs; spread is the adjoint of synthesise
//   kernel, gather                weights <-> transformed kernel; gather is the adjoint of kernel
//
// outputs = synthesise(kernel(w) * analyse(samples)), the product element by element. Each takes (from, its step, to, its step). A
// tile of an image is the same in rows, then in columns. With two phases, even and odd samples are analysed apart, each with every
// second weight, and their products have one sum.

#pragma once

#include "cells.h"

namespace tux {

// y[i] = sum_v w[v] x[i+v], points 0, 1, -1, 2, -2 and infinity: 6 products for 4 outputs.
struct same_size {
    enum { size = 3, phases = 1, samples = 6, coefficients = 6, kernels = 6, step = 4, scale = 1 };
    static const bool turns = true;                 // its adjoint is itself, with the kernel turned
    static int kernel_of(int coefficient) { return coefficient; }
    static int64_t samples_of(int64_t tiles) { return step * tiles + 2; }

    template <class V> static TUX_INLINE void analyse(const V* x, int s, V* m, int d) {
        V a = x[4 * s] - 4 * x[2 * s], b = x[3 * s] - 4 * x[s], c = x[4 * s] - x[2 * s], e = 2 * (x[3 * s] - x[s]);
        m[0] = 4 * x[0] - 5 * x[2 * s] + x[4 * s];
        m[d] = a + b;
        m[2 * d] = a - b;
        m[3 * d] = c + e;
        m[4 * d] = c - e;
        m[5 * d] = 4 * x[s] - 5 * x[3 * s] + x[5 * s];
    }
    template <class V> static TUX_INLINE void synthesise(const V* m, int s, V* y, int d) {
        V a = m[s] + m[2 * s], b = m[s] - m[2 * s], c = m[3 * s] + m[4 * s], e = m[3 * s] - m[4 * s];
        y[0] = m[0] + a + c;
        y[d] = b + 2 * e;
        y[2 * d] = a + 4 * c;
        y[3 * d] = b + 8 * e + m[5 * s];
    }
    template <class V> static TUX_INLINE void spread(const V* y, int s, V* m, int d) {
        V a = y[0] + y[2 * s], b = y[s] + y[3 * s], c = y[0] + 4 * y[2 * s], e = 2 * y[s] + 8 * y[3 * s];
        m[0] = y[0];
        m[d] = a + b;
        m[2 * d] = a - b;
        m[3 * d] = c + e;
        m[4 * d] = c - e;
        m[5 * d] = y[3 * s];
    }
    template <class V> static TUX_INLINE void kernel(const V* w, int s, V* u, int d) {
        V a = (w[0] + w[2 * s]) / 6, b = w[s] / 6, c = w[0] / 24 + w[2 * s] / 6, e = w[s] / 12;
        u[0] = w[0] / 4;
        u[d] = -a - b;
        u[2 * d] = b - a;
        u[3 * d] = c + e;
        u[4 * d] = c - e;
        u[5 * d] = w[2 * s];
    }
    template <class V> static TUX_INLINE void gather(const V* u, int s, V* w, int d) {
        V a = (u[s] + u[2 * s]) / 6, b = (u[2 * s] - u[s]) / 6, c = u[3 * s] + u[4 * s], e = (u[3 * s] - u[4 * s]) / 12;
        w[0] = u[0] / 4 - a + c / 24;
        w[d] = b + e;
        w[2 * d] = c / 6 - a + u[5 * s];
    }

    // An image with a border of zeros.
    template <class T> static void read(cells<arithmetic_t<T>>& to, const planes<const T>& from, const double*) { to.read(from, 1); }
    template <class T> static void write(cells<arithmetic_t<T>>&, const planes<T>&, const double*) {}
};

// y[i] = w[0] x[i] + w[1] x[i+1], points 0, 1, -1, 2 and infinity: 5 products for 4 outputs in place of 8.
struct two_taps {
    template <class V> static TUX_INLINE void analyse(const V* x, int s, V* m, int d) {
        V a = x[3 * s] - x[2 * s], b = 2 * x[s];
        m[0] = 2 * (x[0] - x[2 * s]) + x[3 * s] - x[s];
        m[d] = a - b;
        m[2 * d] = b - 3 * x[2 * s] + x[3 * s];
        m[3 * d] = x[3 * s] - x[s];
        m[4 * d] = b - x[2 * s] - 2 * x[3 * s] + x[4 * s];
    }
    template <class V> static TUX_INLINE void analyse_adjoint(const V* m, int s, V* x, int d) {
        x[0] = 2 * m[0];
        x[d] = 2 * (m[2 * s] - m[s] + m[4 * s]) - m[0] - m[3 * s];
        x[2 * d] = -2 * m[0] - m[s] - 3 * m[2 * s] - m[4 * s];
        x[3 * d] = m[0] + m[s] + m[2 * s] + m[3 * s] - 2 * m[4 * s];
        x[4 * d] = m[4 * s];
    }
    template <class V> static TUX_INLINE void synthesise(const V* m, int s, V* y, int d) {
        V a = m[s] + m[2 * s], b = m[s] - m[2 * s], c = m[3 * s];
        y[0] = m[0] + a + c;
        y[d] = b + 2 * c;
        y[2 * d] = a + 4 * c;
        y[3 * d] = b + 8 * c + m[4 * s];
    }
    template <class V> static TUX_INLINE void spread(const V* y, int s, V* m, int d) {
        V a = y[0] + y[2 * s], b = y[s] + y[3 * s];
        m[0] = y[0];
        m[d] = a + b;
        m[2 * d] = a - b;
        m[3 * d] = y[0] + 2 * y[s] + 4 * y[2 * s] + 8 * y[3 * s];
        m[4 * d] = y[3 * s];
    }
    template <class V> static TUX_INLINE void kernel(const V* w, int s, V* u, int d) {
        u[0] = w[0] / 2;
        u[d] = (w[0] + w[s]) / -2;
        u[2 * d] = (w[s] - w[0]) / 6;
        u[3 * d] = w[0] / 6 + w[s] / 3;
        u[4 * d] = w[s];
    }
    template <class V> static TUX_INLINE void gather(const V* u, int s, V* w, int d) {
        w[0] = (u[0] - u[s]) / 2 + (u[3 * s] - u[2 * s]) / 6;
        w[d] = u[4 * s] - u[s] / 2 + u[2 * s] / 6 + u[3 * s] / 3;
    }
};

// y[i] = sum_v w[v] x[2i+v], four weights: even and odd samples have two taps each, of one sum. 10 products for 4 outputs in place
// of 16; in two dimensions 100 in place of 256.
struct quarter_size : two_taps {
    enum { size = 4, phases = 2, samples = 5, coefficients = 5, kernels = 5, step = 8, scale = 2 };
    static const bool turns = false;
    static int kernel_of(int coefficient) { return coefficient; }
    static int64_t samples_of(int64_t tiles) { return step * tiles + 2; }

    // An image with a border of zeros.
    template <class T> static void read(cells<arithmetic_t<T>>& to, const planes<const T>& from, const double*) { to.read(from, 1); }
    template <class T> static void write(cells<arithmetic_t<T>>& from, const planes<T>& to, const double*) { from.write(to, 1); }
};

// y[i] = sum_v w[v] x[2i+v], three weights: the even samples have w[0] and w[2], each odd sample has a product with w[1]. 9 products
// for 4 outputs in place of 12; in two dimensions 81 in place of 144, with 36 kernels.
struct half_size {
    enum { size = 3, phases = 1, samples = 9, coefficients = 9, kernels = 6, step = 8, scale = 2 };
    static const bool turns = false;
    static int kernel_of(int coefficient) { return coefficient < 5 ? coefficient : 5; }
    static int64_t samples_of(int64_t tiles) { return step * tiles + 1; }

    template <class V> static TUX_INLINE void analyse(const V* x, int s, V* m, int d) {
        two_taps::analyse(x, 2 * s, m, d);
        TUX_UNROLL
        for (int i = 0; i < 4; i++) m[(5 + i) * d] = x[(2 * i + 1) * s];
    }
    template <class V> static TUX_INLINE void analyse_adjoint(const V* m, int s, V* x, int d) {
        two_taps::analyse_adjoint(m, s, x, 2 * d);
        TUX_UNROLL
        for (int i = 0; i < 4; i++) x[(2 * i + 1) * d] = m[(5 + i) * s];
    }
    template <class V> static TUX_INLINE void synthesise(const V* m, int s, V* y, int d) {
        two_taps::synthesise(m, s, y, d);
        TUX_UNROLL
        for (int i = 0; i < 4; i++) y[i * d] += m[(5 + i) * s];
    }
    template <class V> static TUX_INLINE void spread(const V* y, int s, V* m, int d) {
        two_taps::spread(y, s, m, d);
        TUX_UNROLL
        for (int i = 0; i < 4; i++) m[(5 + i) * d] = y[i * s];
    }
    template <class V> static TUX_INLINE void kernel(const V* w, int s, V* u, int d) {
        two_taps::kernel(w, 2 * s, u, d);
        u[5 * d] = w[s];
    }
    template <class V> static TUX_INLINE void gather(const V* u, int s, V* w, int d) {
        two_taps::gather(u, s, w, 2 * d);
        w[d] = u[5 * s];
    }

    // An image correlated with the four taps in both dimensions, with a border of two zeros, and the adjoint of that.
    template <class T> static void read(cells<arithmetic_t<T>>& to, const planes<const T>& from, const double* taps) {
        to.read_filtered(from, taps);
    }
    template <class T> static void write(cells<arithmetic_t<T>>& from, const planes<T>& to, const double* taps) {
        from.write_filtered(to, taps);
    }
};

//---------------------------------------------------------------------------
// Both dimensions. `f` is one of the functions above.

// The S x S cells from `cell` on, `row` and `column` apart, become C x C coefficients, `step` apart.
template <int S, int C, class A, class F> TUX_INLINE void to_coefficients(const A* cell, int64_t row, int64_t column, A* to,
                                                                              int64_t step, F f) {
    vec<A> half[S * C];
    TUX_UNROLL
    for (int x = 0; x < S; x++) {
        vec<A> in[S];
        TUX_UNROLL
        for (int y = 0; y < S; y++) in[y] = load(cell + y * row + x * column);
        f(in, 1, half + x, S);
    }
    TUX_UNROLL
    for (int j = 0; j < C; j++) {
        vec<A> out[C];
        f(half + j * S, 1, out, 1);
        TUX_UNROLL
        for (int k = 0; k < C; k++) store(to + (j * C + k) * step, out[k]);
    }
}

// The way back; with ADD to what the cells hold.
template <int C, int S, bool ADD, class A, class F> TUX_INLINE void to_cells(const A* from, int64_t step, A* cell, int64_t row,
                                                                                 int64_t column, F f) {
    vec<A> half[C * S];
    TUX_UNROLL
    for (int j = 0; j < C; j++) {
        vec<A> in[C];
        TUX_UNROLL
        for (int k = 0; k < C; k++) in[k] = load(from + (j * C + k) * step);
        f(in, 1, half + j * S, 1);
    }
    TUX_UNROLL
    for (int x = 0; x < S; x++) {
        vec<A> out[S];
        f(half + x, S, out, 1);
        TUX_UNROLL
        for (int y = 0; y < S; y++) {
            A* at = cell + y * row + x * column;
            store(at, ADD ? load(at) + out[y] : out[y]);
        }
    }
}

}  // namespace tux
