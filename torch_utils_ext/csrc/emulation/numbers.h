// 16-bit floating point for a CPU: storage types with exact conversion from float, round to nearest even.
#pragma once
#include <cstdint>
#include <cstring>

namespace emulation {

inline uint32_t bits_of(float value) { uint32_t bits; std::memcpy(&bits, &value, 4); return bits; }
inline float float_of(uint32_t bits) { float value; std::memcpy(&value, &bits, 4); return value; }

// IEEE binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits.
struct Half {
    uint16_t bits;

    Half() = default;
    explicit Half(float value)
    {
        const uint32_t sign = bits_of(value) >> 16 & 0x8000, magnitude = bits_of(value) & 0x7FFFFFFF;
        if (magnitude > 0x7F800000)                             // NaN
            bits = uint16_t(sign | 0x7E00);
        else if (magnitude >= 0x477FF000)                       // 65520 and above round to infinity
            bits = uint16_t(sign | 0x7C00);
        else if (magnitude < 0x38800000)                        // below 2^-14: multiples of 2^-24. Adding 1/2, whose last
            bits = uint16_t(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3F000000));    // bit is 2^-24, rounds to these.
        else
            bits = uint16_t(sign | (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13);
    }
    explicit operator float() const
    {
        const uint32_t sign = uint32_t(bits & 0x8000) << 16, magnitude = uint32_t(bits & 0x7FFF) << 13;
        if (magnitude >= 0x0F800000)                            // infinity, NaN
            return float_of(sign | magnitude | 0x7F800000);
        const float value = float_of(magnitude) * 5.192296858534828e33f;    // 2^112 corrects the exponent, also of subnormals
        return float_of(sign | bits_of(value));
    }
};

// The upper half of a float.
struct BFloat16 {
    uint16_t bits;

    BFloat16() = default;
    explicit BFloat16(float value)
    {
        const uint32_t whole = bits_of(value);
        bits = value != value ? uint16_t(0x7FC0) : uint16_t((whole + 0x7FFF + (whole >> 16 & 1)) >> 16);
    }
    explicit operator float() const { return float_of(uint32_t(bits) << 16); }
};

}   // namespace emulation
