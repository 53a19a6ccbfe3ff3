// Divisions by inverses against those of C++.
#include "cuda/launch.h"

extern "C" int64_t wrong_divisions(const int64_t* numbers, int64_t count, const int64_t* divisors, int64_t divisor_count)
{
    int64_t wrong = 0;
    for (int64_t j = 0; j < divisor_count; j++) {
        const tux::Divisor by = tux::divisor(divisors[j]);
        for (int64_t i = 0; i < count; i++) {
            int64_t quotient;
            int remainder;
            tux::divide(numbers[i], by, quotient, remainder);
            wrong += quotient != numbers[i] / divisors[j] || remainder != numbers[i] % divisors[j];
        }
    }
    return wrong;
}
