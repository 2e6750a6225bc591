/* CRC-32C of what passes by, at the speed of memory where the processor knows how.
 *
 * The library that checks objects from outside takes bytes objects only, so every view would be copied for
 * it; and a sum taken of the piece that is just being written finds it in the processor's cache. */
#ifndef CACHE_CRC32C_H
#define CACHE_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CRC32C_POLYNOMIAL 0x82F63B78u /* Castagnoli's, bit-reflected (RFC 3720, appendix B.4) */

static uint32_t crc32c_table[256];

static void crc32c_prepare(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ CRC32C_POLYNOMIAL : crc >> 1;
        crc32c_table[byte] = crc;
    }
}

static uint32_t crc32c_by_table(uint32_t crc, const unsigned char *data, size_t size)
{
    while (size-- > 0)
        crc = crc >> 8 ^ crc32c_table[(crc ^ *data++) & 0xff];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_by_processor(uint32_t crc, const unsigned char *data,
                                                                      size_t size)
{
    uint64_t sum = crc;
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        sum = __builtin_ia32_crc32di(sum, word);
    }
    crc = (uint32_t)sum;
    while (size-- > 0)
        crc = __builtin_ia32_crc32qi(crc, *data++);
    return crc;
}

static int crc32c_has_processor(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>

__attribute__((target("+crc"))) static uint32_t crc32c_by_processor(uint32_t crc, const unsigned char *data,
                                                                    size_t size)
{
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        crc = __crc32cd(crc, word);
    }
    while (size-- > 0)
        crc = __crc32cb(crc, *data++);
    return crc;
}

static int crc32c_has_processor(void)
{
    return (getauxval(AT_HWCAP) & (1UL << 7)) != 0; /* HWCAP_CRC32 */
}
#else
static uint32_t crc32c_by_processor(uint32_t crc, const unsigned char *data, size_t size)
{
    return crc32c_by_table(crc, data, size);
}

static int crc32c_has_processor(void)
{
    return 0;
}
#endif

/* The sum of what `crc` is the sum of, with `data` behind it; 0 to begin with. */
static uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    static int has = -1;
    if (has < 0)
        has = crc32c_has_processor();
    return ~(has ? crc32c_by_processor : crc32c_by_table)(~crc, data, size);
}

#endif
