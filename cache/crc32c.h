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

/* The processor can begin a sum each cycle, and takes three for one: so three neighbours of this many bytes are
 * summed at the same time, and their sums put together. */
enum { CRC32C_STRIDE = 4096 };

static uint32_t crc32c_table[256];
static uint32_t crc32c_behind[4][256]; /* what each byte of a sum becomes behind CRC32C_STRIDE zeros */

static uint32_t crc32c_by_table(uint32_t crc, const unsigned char *data, size_t size)
{
    while (size-- > 0)
        crc = crc >> 8 ^ crc32c_table[(crc ^ *data++) & 0xff];
    return crc;
}

static void crc32c_prepare(void)
{
    static const unsigned char zeros[CRC32C_STRIDE];
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ CRC32C_POLYNOMIAL : crc >> 1;
        crc32c_table[byte] = crc;
    }
    for (int bit = 0; bit < 32; bit++) {
        uint32_t behind = crc32c_by_table(UINT32_C(1) << bit, zeros, sizeof zeros);
        /* A sum of several bits is the sum of theirs. */
        for (uint32_t byte = 0; byte < 256; byte++)
            if (byte >> bit % 8 & 1)
                crc32c_behind[bit / 8][byte] ^= behind;
    }
}

static inline uint32_t crc32c_moved(uint32_t crc)
{
    return crc32c_behind[0][crc & 0xff] ^ crc32c_behind[1][crc >> 8 & 0xff] ^ crc32c_behind[2][crc >> 16 & 0xff]
           ^ crc32c_behind[3][crc >> 24];
}

static inline uint64_t crc32c_word(const unsigned char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof word);
    return word;
}

#if defined(__x86_64__)
#define CRC32C_TARGET __attribute__((target("sse4.2")))
#define CRC32C_OF_WORD(crc, word) ((uint32_t)__builtin_ia32_crc32di(crc, word))
#define CRC32C_OF_BYTE(crc, byte) __builtin_ia32_crc32qi(crc, byte)

static int crc32c_has_processor(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>

#define CRC32C_TARGET __attribute__((target("+crc")))
#define CRC32C_OF_WORD(crc, word) __crc32cd(crc, word)
#define CRC32C_OF_BYTE(crc, byte) __crc32cb(crc, byte)

static int crc32c_has_processor(void)
{
    return (getauxval(AT_HWCAP) & (1UL << 7)) != 0; /* HWCAP_CRC32 */
}
#endif

#ifdef CRC32C_TARGET
CRC32C_TARGET static uint32_t crc32c_by_processor(uint32_t crc, const unsigned char *data, size_t size)
{
    for (; size >= 3 * CRC32C_STRIDE; data += 3 * CRC32C_STRIDE, size -= 3 * CRC32C_STRIDE) {
        uint32_t second = 0, third = 0;
        for (const unsigned char *at = data; at < data + CRC32C_STRIDE; at += 8) {
            crc = CRC32C_OF_WORD(crc, crc32c_word(at));
            second = CRC32C_OF_WORD(second, crc32c_word(at + CRC32C_STRIDE));
            third = CRC32C_OF_WORD(third, crc32c_word(at + 2 * CRC32C_STRIDE));
        }
        crc = crc32c_moved(crc32c_moved(crc) ^ second) ^ third;
    }
    for (; size >= 8; data += 8, size -= 8)
        crc = CRC32C_OF_WORD(crc, crc32c_word(data));
    while (size-- > 0)
        crc = CRC32C_OF_BYTE(crc, *data++);
    return crc;
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
