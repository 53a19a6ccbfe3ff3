// Planes narrower than a vector are processed as many at a time as a vector has lanes, one plane per lane. A cell is a vector
// that holds one pixel of each plane.

#pragma once

#include "taps.h"

namespace tux {

// Planes first ... first + L - 1, or up to end; place(i) is the address of plane i. Lanes without a plane read the first one and
// are never written.
template <class T> struct narrow_planes {
    static const int L = lanes<arithmetic_t<T>>::count;
    T* plane[L];
    int count;

    template <class Place> TUX_INLINE narrow_planes(int64_t first, int64_t end, Place place)
        : count((int)(end - first < L ? end - first : L)) {
        for (int l = 0; l < L; l++) plane[l] = place(first + (l < count ? l : 0));
    }
};

// Cells in rows of W, with a border of `border` cells on every side. Cells of the border are never written.
template <class A> struct image {
    static const int L = lanes<A>::count;
    A* data;
    int64_t H, W, border;

    static int64_t size(int64_t H, int64_t W, int64_t border) { return (H + 2 * border) * (W + 2 * border) * L; }
    int64_t stride() const { return (W + 2 * border) * L; }
    A* at(int64_t r, int64_t c) const { return data + (r + border) * stride() + (c + border) * L; }
};

// All cells of an image, or every second one of every second row, from row a and column b on.
template <class A> struct view {
    A* data;
    int64_t H, W, stride, step;

    view(const image<A>& m) : data(m.at(0, 0)), H(m.H), W(m.W), stride(m.stride()), step(m.L) {}
    view(const image<A>& m, int a, int b) : data(m.at(a, b)), H(m.H / 2), W(m.W / 2), stride(2 * m.stride()), step(2 * m.L) {}
    A* at(int64_t r, int64_t c) const { return data + r * stride + c * step; }
};

// y = x correlated with k[9]; += with ADD.
template <bool ADD, class A> TUX_INLINE void correlate_cells(view<A> x, const vec<A>* k, view<A> y) {
    for (int64_t c = 0; c < y.W; c++)
        each_block(0, y.H, [&](int64_t r, auto rows) {
            const A* from = x.at(r - 1, c - 1);
            vec<A> acc[rows()] = {};
            if (ADD) for (int j = 0; j < rows(); j++) acc[j] = load(y.at(r + j, c));
            correlate<rows(), A>([&](int j, int v) { return load(from + j * x.stride + v * x.step); }, k, acc);
            for (int j = 0; j < rows(); j++) store(y.at(r + j, c), acc[j]);
        });
}

// sum[9] += products of g with its neighbours in x.
template <class A> TUX_INLINE void accumulate_cells(view<A> x, view<A> g, vec<A>* sum) {
    for (int64_t c = 0; c < g.W; c++)
        each_block(0, g.H, [&](int64_t r, auto rows) {
            const A* from = x.at(r - 1, c - 1);
            vec<A> gv[rows()];
            for (int j = 0; j < rows(); j++) gv[j] = load(g.at(r + j, c));
            accumulate<rows(), A>([&](int j, int v) { return load(from + j * x.stride + v * x.step); }, gv, sum);
        });
}

template <class A> struct walk {        // over an image, row by row
    A* here;
    int64_t W, skip, column;

    TUX_INLINE walk(const image<A>& m) : here(m.at(0, 0)), W(m.W), skip(2 * m.border * image<A>::L), column(0) {}
    TUX_INLINE A* next() {
        A* cell = here;
        here += image<A>::L;
        if (++column == W) column = 0, here += skip;
        return cell;
    }
};

template <class T, class A> TUX_INLINE void gather(const narrow_planes<const T>& b, const image<A>& to) {
    const int L = lanes<A>::count;
    walk<A> w(to);
    int64_t n = to.H * to.W, i = 0;
    for (; i + L <= n; i += L) {
        vec<A> v[L];
        TUX_UNROLL
        for (int l = 0; l < L; l++) v[l] = load(b.plane[l] + i);
        transpose<A>(v);
        TUX_UNROLL
        for (int t = 0; t < L; t++) store(w.next(), v[t]);
    }
    for (; i < n; i++) {
        A* cell = w.next();
        for (int l = 0; l < L; l++) cell[l] = load_one(b.plane[l] + i);
    }
}

template <class T, class A> TUX_INLINE void scatter(const image<A>& from, const narrow_planes<T>& b) {
    const int L = lanes<A>::count;
    walk<A> w(from);
    int64_t n = from.H * from.W, i = 0;
    for (; i + L <= n; i += L) {
        vec<A> v[L];
        TUX_UNROLL
        for (int t = 0; t < L; t++) v[t] = load(w.next());
        transpose<A>(v);
        for (int l = 0; l < b.count; l++) store(b.plane[l] + i, v[l]);
    }
    for (; i < n; i++) {
        const A* cell = w.next();
        for (int l = 0; l < b.count; l++) store_one(b.plane[l] + i, cell[l]);
    }
}

}  // namespace tux
