// Vectors of the widest kind that the compiler's flags allow, with loads and stores for the four dtypes.
//
// T is the type in memory, A the type of arithmetic (float, or double for double). Written with the vector extensions of gcc and
// clang; half and bfloat16 are 16 bits in memory.

#pragma once

#include <stdint.h>
#include <string.h>
#include <type_traits>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define TUX_VECTOR_BYTES 64
#elif defined(__AVX__)
#define TUX_VECTOR_BYTES 32
#else
#define TUX_VECTOR_BYTES 16
#endif

#define TUX_INLINE inline __attribute__((always_inline))
#define TUX_UNROLL _Pragma("GCC unroll 16")

namespace tux {

struct half { uint16_t bits; };
struct bfloat { uint16_t bits; };

template <class A> struct lanes;

template <> struct lanes<float> {
    enum { count = TUX_VECTOR_BYTES / 4 };
    typedef float vec __attribute__((vector_size(TUX_VECTOR_BYTES)));
    typedef int32_t mask __attribute__((vector_size(TUX_VECTOR_BYTES)));
};

template <> struct lanes<double> {
    enum { count = TUX_VECTOR_BYTES / 8 };
    typedef double vec __attribute__((vector_size(TUX_VECTOR_BYTES)));
    typedef int64_t mask __attribute__((vector_size(TUX_VECTOR_BYTES)));
};

template <class A> using vec = typename lanes<A>::vec;
template <class A> using mask = typename lanes<A>::mask;

template <class T> struct arithmetic { typedef float type; };
template <> struct arithmetic<double> { typedef double type; };
template <class T> using arithmetic_t = typename arithmetic<std::remove_const_t<T>>::type;

//---------------------------------------------------------------------------
// Whole vectors, at any address.

template <class A> TUX_INLINE vec<A> splat(A value) { return value - vec<A>{}; }

TUX_INLINE vec<float> load(const float* p) { vec<float> v; memcpy(&v, p, sizeof v); return v; }
TUX_INLINE vec<double> load(const double* p) { vec<double> v; memcpy(&v, p, sizeof v); return v; }
TUX_INLINE void store(float* p, vec<float> v) { memcpy(p, &v, sizeof v); }
TUX_INLINE void store(double* p, vec<double> v) { memcpy(p, &v, sizeof v); }

// Sixteen bits per lane, in memory and on their way to a float's upper half.
typedef uint16_t half_bits __attribute__((vector_size(TUX_VECTOR_BYTES / 2)));
typedef uint32_t word_bits __attribute__((vector_size(TUX_VECTOR_BYTES)));

TUX_INLINE vec<float> load(const bfloat* p) {
    half_bits h;
    memcpy(&h, p, sizeof h);
    return (vec<float>)(__builtin_convertvector(h, word_bits) << 16);
}

TUX_INLINE void store(bfloat* p, vec<float> v) {    // to nearest, ties to even; NaN stays NaN
    word_bits w = (word_bits)v;
    word_bits rounded = (w + 0x7fff + ((w >> 16) & 1)) >> 16;
    word_bits nan = (word_bits)(v != v);
    half_bits h = __builtin_convertvector((nan & 0x7fc0) | (~nan & rounded), half_bits);
    memcpy(p, &h, sizeof h);
}

#if defined(__F16C__) && TUX_VECTOR_BYTES == 64
TUX_INLINE vec<float> load(const half* p) { return (vec<float>)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
TUX_INLINE void store(half* p, vec<float> v) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, 0)); }
#elif defined(__F16C__) && TUX_VECTOR_BYTES == 32
TUX_INLINE vec<float> load(const half* p) { return (vec<float>)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
TUX_INLINE void store(half* p, vec<float> v) { _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v, 0)); }
#else
TUX_INLINE float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff, w;
    float f;
    if (magnitude >= 0x7c00) {                      // infinity, NaN
        w = sign | 0x7f800000 | (magnitude & 0x3ff) << 13;
        memcpy(&f, &w, 4);
        return f;
    }
    w = magnitude << 13;                            // also right for subnormals, because 2^112 is exact
    memcpy(&f, &w, 4);
    f *= 0x1p112f;
    memcpy(&w, &f, 4);
    w |= sign;
    memcpy(&f, &w, 4);
    return f;
}

TUX_INLINE uint16_t float_to_half(float f) {        // to nearest, ties to even
    uint32_t w;
    memcpy(&w, &f, 4);
    uint16_t sign = w >> 16 & 0x8000;
    w &= 0x7fffffff;
    if (w > 0x7f800000) return sign | 0x7e00;
    if (w >= 0x477ff000) return sign | 0x7c00;      // 65520 and more
    if (w < 0x38800000) {                           // below 2^-14: count in units of 2^-24
        float a, magic = 0.5f;
        memcpy(&a, &w, 4);
        a += magic;
        memcpy(&w, &a, 4);
        return sign | (uint16_t)(w - 0x3f000000);
    }
    return sign | (uint16_t)((w - 0x38000000 + 0xfff + (w >> 13 & 1)) >> 13);
}

TUX_INLINE vec<float> load(const half* p) {
    vec<float> v;
    for (int i = 0; i < lanes<float>::count; i++) v[i] = half_to_float(p[i].bits);
    return v;
}

TUX_INLINE void store(half* p, vec<float> v) {
    for (int i = 0; i < lanes<float>::count; i++) p[i].bits = float_to_half(v[i]);
}
#endif

// Keeps a loaded vector in its register. Otherwise compilers load it again for each product, and loads become the bottleneck.
template <class V> TUX_INLINE void keep(V& v) {
#if defined(__x86_64__)
    asm("" : "+x"(v));
#elif defined(__aarch64__) && TUX_VECTOR_BYTES == 16
    asm("" : "+w"(v));
#else
    (void)v;
#endif
}

//---------------------------------------------------------------------------
// The first n lanes of a vector, 0 < n < lanes; the others are zero and nothing beyond p + n is touched.

template <class T> TUX_INLINE void copy_pieces(T* to, const T* from, int n) {
    TUX_UNROLL
    for (int piece = 16; piece; piece /= 2)
        if (piece < lanes<arithmetic_t<T>>::count && (n & piece)) {
            memcpy(to, from, piece * sizeof(T));
            to += piece;
            from += piece;
        }
}

template <class T> TUX_INLINE vec<arithmetic_t<T>> load_part(const T* p, int n) {
    T part[lanes<arithmetic_t<T>>::count] = {};
    copy_pieces(part, p, n);
    return load(part);
}

template <class T> TUX_INLINE void store_part(T* p, vec<arithmetic_t<T>> v, int n) {
    T part[lanes<arithmetic_t<T>>::count];
    store(part, v);
    copy_pieces(p, part, n);
}

template <class T> TUX_INLINE arithmetic_t<T> load_one(const T* p) { return load_part(p, 1)[0]; }
template <class T> TUX_INLINE void store_one(T* p, arithmetic_t<T> a) { store_part(p, splat<arithmetic_t<T>>(a), 1); }
TUX_INLINE float load_one(const float* p) { return *p; }
TUX_INLINE double load_one(const double* p) { return *p; }
TUX_INLINE void store_one(float* p, float a) { *p = a; }
TUX_INLINE void store_one(double* p, double a) { *p = a; }

// The same for any n > 0.
template <class T> TUX_INLINE vec<arithmetic_t<T>> get(const T* p, int64_t n) {
    return n >= lanes<arithmetic_t<T>>::count ? load(p) : load_part(p, (int)n);
}

template <class T> TUX_INLINE void put(T* p, vec<arithmetic_t<T>> v, int64_t n) {
    if (n >= lanes<arithmetic_t<T>>::count) store(p, v);
    else store_part(p, v, (int)n);
}

// A whole vector at a multiple of its size; with STREAMED it bypasses the caches.
template <bool STREAMED, class T> TUX_INLINE void write(T* p, vec<arithmetic_t<T>> v) {
#ifdef __x86_64__
    if constexpr (STREAMED) {
        alignas(64) T cells[lanes<arithmetic_t<T>>::count];
        store(cells, v);
        if constexpr (sizeof cells == 8) {
            long long word;
            memcpy(&word, cells, 8);
            return _mm_stream_si64((long long*)p, word);
        }
        if constexpr (sizeof cells == 16) return _mm_stream_si128((__m128i*)p, _mm_load_si128((const __m128i*)cells));
#if TUX_VECTOR_BYTES >= 32
        if constexpr (sizeof cells == 32) return _mm256_stream_si256((__m256i*)p, _mm256_load_si256((const __m256i*)cells));
#endif
#if TUX_VECTOR_BYTES >= 64
        if constexpr (sizeof cells == 64) return _mm512_stream_si512((__m512i*)p, _mm512_load_si512(cells));
#endif
    }
#endif
    store(p, v);
}

// Prefetches the data that a pass through memory reaches one page later, because the processor's prefetching ends at a page.
TUX_INLINE void read_ahead(const void* p) { __builtin_prefetch((const char*)p + 4096); }

//---------------------------------------------------------------------------
// Lanes.

template <class A> TUX_INLINE vec<A> shift_up(vec<A> v) {       // 0 v0 v1 ...
    mask<A> from;
    TUX_UNROLL
    for (int l = 0; l < lanes<A>::count; l++) from[l] = l ? l - 1 : lanes<A>::count;
    return __builtin_shuffle(v, vec<A>{}, from);
}

template <class A> TUX_INLINE vec<A> shift_down(vec<A> v) {     // v1 v2 ... 0
    mask<A> from;
    TUX_UNROLL
    for (int l = 0; l < lanes<A>::count; l++) from[l] = l + 1;
    return __builtin_shuffle(v, vec<A>{}, from);
}

template <class A> TUX_INLINE void interleave(vec<A> even, vec<A> odd, vec<A>* lo, vec<A>* hi) {
    const int L = lanes<A>::count;
    mask<A> first, second;
    TUX_UNROLL
    for (int l = 0; l < L; l++) {
        first[l] = l / 2 + (l & 1) * L;
        second[l] = l / 2 + L / 2 + (l & 1) * L;
    }
    *lo = __builtin_shuffle(even, odd, first);
    *hi = __builtin_shuffle(even, odd, second);
}

// L vectors as a matrix: blocks of N by N beside the diagonal change places, for N from L / 2 to 1.
template <int N, class A> TUX_INLINE void transpose_blocks(vec<A>* v) {
    const int L = lanes<A>::count;
    mask<A> first, second;
    TUX_UNROLL
    for (int l = 0; l < L; l++) {
        first[l] = l & N ? L + (l ^ N) : l;
        second[l] = l & N ? L + l : l ^ N;
    }
    TUX_UNROLL
    for (int i = 0; i < L; i++)
        if (!(i & N)) {
            vec<A> a = __builtin_shuffle(v[i], v[i + N], first);
            v[i + N] = __builtin_shuffle(v[i], v[i + N], second);
            v[i] = a;
        }
}

template <class A> TUX_INLINE void transpose(vec<A>* v) {
    if (lanes<A>::count > 8) transpose_blocks<8, A>(v);
    if (lanes<A>::count > 4) transpose_blocks<4, A>(v);
    if (lanes<A>::count > 2) transpose_blocks<2, A>(v);
    transpose_blocks<1, A>(v);
}

template <int N, class A> TUX_INLINE vec<A> plus_other_half(vec<A> v) {     // of each 2N lanes
    mask<A> from;
    TUX_UNROLL
    for (int l = 0; l < lanes<A>::count; l++) from[l] = l ^ N;
    return v + __builtin_shuffle(v, from);
}

template <class A> TUX_INLINE A sum_lanes(vec<A> v) {       // pairwise, always in the same order
    if (lanes<A>::count > 8) v = plus_other_half<8, A>(v);
    if (lanes<A>::count > 4) v = plus_other_half<4, A>(v);
    if (lanes<A>::count > 2) v = plus_other_half<2, A>(v);
    return plus_other_half<1, A>(v)[0];
}

}  // namespace tux
