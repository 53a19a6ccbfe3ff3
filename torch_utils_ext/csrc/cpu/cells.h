// A group of planes as cells: a vector for each pixel, a lane for each plane.

#pragma once

#include <stdlib.h>

#include "vec.h"

namespace tux {

// Planes of a tensor from `data` on; those from `count` on do not exist.
template <class T> struct planes {
    T* data;
    int64_t count, H, W;
    planes(T* data, int64_t count, int64_t H, int64_t W) : data(data), count(count), H(H), W(W) {}
};

template <class A> struct cells {
    typedef vec<A> V;
    static const int L = lanes<A>::count;
    int64_t H, W, stride;
    A *data, *rows;                                 // rows: five more, for filters

    cells(int64_t H, int64_t W) : H(H), W(W), stride(W * L), data(nullptr), rows(nullptr) {
        data = (A*)aligned_alloc(64, (((H + 5) * stride + 16 * L) * sizeof(A) + 63) / 64 * 64);
        if (data) rows = data + H * stride;
    }
    ~cells() { free(data); }
    cells(const cells&) = delete;
    A* at(int64_t y, int64_t x) { return data + y * stride + x * L; }

    static void zero(A* cell, int64_t count) { for (int64_t i = 0; i < count; i++) store(cell + i * L, V{}); }
    void clear() { zero(data, H * W); }

    // A row of the planes; cells of planes that do not exist are zero.
    template <class T> static TUX_INLINE void read_row(const planes<const T>& from, int64_t y, A* to) {
        for (int64_t x = 0; x < from.W; x += L) {
            const int64_t left = from.W - x;
            V v[L];
            for (int l = 0; l < L; l++) v[l] = l < from.count ? get(from.data + (l * from.H + y) * from.W + x, left) : V{};
            transpose<A>(v);
            for (int i = 0; i < L && i < left; i++) store(to + (x + i) * L, v[i]);
        }
    }
    template <class T> static TUX_INLINE void write_row(const A* from, const planes<T>& to, int64_t y) {
        for (int64_t x = 0; x < to.W; x += L) {
            const int64_t left = to.W - x;
            V v[L];
            for (int i = 0; i < L; i++) v[i] = i < left ? load(from + (x + i) * L) : V{};
            transpose<A>(v);
            for (int l = 0; l < L && l < to.count; l++) put(to.data + (l * to.H + y) * to.W + x, v[l], left);
        }
    }

    // The planes with a border above and on the left; zero beyond them.
    template <class T> void read(const planes<const T>& from, int64_t border) {
        for (int64_t y = 0; y < H; y++) {
            if (y < border || y >= from.H + border) {
                zero(at(y, 0), W);
                continue;
            }
            zero(at(y, 0), border);
            read_row(from, y - border, at(y, border));
            zero(at(y, border + from.W), W - border - from.W);
        }
    }
    template <class T> void write(const planes<T>& to, int64_t border) {
        for (int64_t y = 0; y < to.H; y++) write_row<T>(at(y + border, border), to, y);
    }

    // Cell (y, x) = sum_uv taps[u] taps[v] from(y+u-2, x+v-2) up to from.H and from.W; zero beyond.
    template <class T> void read_filtered(const planes<const T>& from, const double* taps) {
        const V t[4] = {splat<A>(A(taps[0])), splat<A>(A(taps[1])), splat<A>(A(taps[2])), splat<A>(A(taps[3]))};
        A* whole = rows + 4 * stride;               // a row between borders, W + 4 cells at most
        for (int64_t y = 0; y < 4; y++) zero(rows + y * stride, W);
        zero(whole, 2);
        zero(whole + (from.W + 2) * L, 2);
        for (int64_t y = 0; y < H; y++) {           // row y needs y-2 to y+1
            for (int64_t r = y ? y + 1 : 0; r <= y + 1; r++) {
                A* row = rows + r % 4 * stride;
                if (r >= from.H) {
                    zero(row, from.W + 1);
                    continue;
                }
                read_row(from, r, whole + 2 * L);
                for (int64_t x = 0; x <= from.W; x++) {
                    const A* p = whole + x * L;
                    store(row + x * L, load(p) * t[0] + load(p + L) * t[1] + load(p + 2 * L) * t[2] + load(p + 3 * L) * t[3]);
                }
            }
            if (y > from.H) {
                zero(at(y, 0), W);
                continue;
            }
            const A* p[4];
            for (int u = 0; u < 4; u++) p[u] = rows + (y + u + 2) % 4 * stride;     // y + u - 2
            for (int64_t x = 0; x <= from.W; x++)
                store(at(y, x), load(p[0] + x * L) * t[0] + load(p[1] + x * L) * t[1] + load(p[2] + x * L) * t[2] +
                                load(p[3] + x * L) * t[3]);
            zero(at(y, from.W + 1), W - from.W - 1);
        }
    }

    // to(y, x) = sum_uv taps[u] taps[v] cell(y+2-u, x+2-v), of the cells up to to.H and to.W.
    template <class T> void write_filtered(const planes<T>& to, const double* taps) {
        const V t[4] = {splat<A>(A(taps[0])), splat<A>(A(taps[1])), splat<A>(A(taps[2])), splat<A>(A(taps[3]))};
        A* row = rows;
        zero(row, W);
        for (int64_t y = 0; y < to.H; y++) {
            A* middle = rows + stride;              // a row with a cell of zeros on the left and two on the right
            zero(middle, 1);
            zero(middle + (to.W + 2) * L, 1);
            const A* p[4];
            for (int u = 0; u < 4; u++) p[u] = y + 2 - u >= 0 && y + 2 - u <= to.H ? at(y + 2 - u, 0) : row;
            for (int64_t x = 0; x <= to.W; x++)
                store(middle + (x + 1) * L, load(p[0] + x * L) * t[0] + load(p[1] + x * L) * t[1] + load(p[2] + x * L) * t[2] +
                                            load(p[3] + x * L) * t[3]);
            A* out = rows + 3 * stride;
            for (int64_t x = 0; x < to.W; x++) {    // cells x-1 to x+2 are middle + x to x+3
                const A* q = middle + x * L;
                store(out + x * L, load(q) * t[3] + load(q + L) * t[2] + load(q + 2 * L) * t[1] + load(q + 3 * L) * t[0]);
            }
            write_row<T>(out, to, y);
        }
    }
};

}  // namespace tux
