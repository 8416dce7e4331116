/*
 * Little-endian numbers, and CRC-32C of bytes.
 *
 * The processor makes it where it can (SSE4.2), otherwise it comes out of tables. The instruction takes eight bytes
 * and three cycles, but three of them may be under way: so a long row of bytes is done as three rows side by side, and
 * the checksum of the first is carried over the length of the second and so on, by a table. Processors with
 * VPCLMULQDQ multiply polynomials, eight at a time: there 256 bytes are carried over the next 256 at once, and only what
 * is left in the end goes through the instruction.
 *
 * make_tables must have been called before anything else.
 */

#ifndef DST_CRC32C_H
#define DST_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_PROCESSOR_CRC 1
#include <immintrin.h>
#else
#define HAS_PROCESSOR_CRC 0
#endif

/* -- numbers in little-endian order, at any address -- */

static inline uint32_t load32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t load64(const unsigned char *at)
{
    return (uint64_t)load32(at) | (uint64_t)load32(at + 4) << 32;
}

static inline void store16(unsigned char *at, uint16_t value)
{
    at[0] = (unsigned char)value;
    at[1] = (unsigned char)(value >> 8);
}

static inline void store32(unsigned char *at, uint32_t value)
{
    store16(at, (uint16_t)value);
    store16(at + 2, (uint16_t)(value >> 16));
}

static inline void store64(unsigned char *at, uint64_t value)
{
    store32(at, (uint32_t)value);
    store32(at + 4, (uint32_t)(value >> 32));
}

/* -- CRC-32C -- */

#define POLYNOMIAL 0x82F63B78u /* reflected */
#define ROW_BYTES 1360         /* three of them, and sixteen bytes, are a block of 4 KiB */

/* bytes[k][b]: what the byte b does to the checksum when k more bytes come after it. */
static uint32_t bytes_table[8][256];
/* rows[k][b]: what the k-th byte b of a checksum becomes when ROW_BYTES zeroes come after it. */
static uint32_t rows_table[4][256];

/* To carry 64 + 64 bits over 256 bytes, or over 64: what to multiply the first and the second half with. */
static uint64_t over_256_bytes[2], over_64_bytes[2];

static uint32_t crc_by_table(uint32_t crc, const unsigned char *data, size_t length)
{
    while (length >= 8) {
        uint32_t low = crc ^ load32(data), high = load32(data + 4);
        crc = bytes_table[7][low & 255] ^ bytes_table[6][low >> 8 & 255] ^ bytes_table[5][low >> 16 & 255] ^
              bytes_table[4][low >> 24] ^ bytes_table[3][high & 255] ^ bytes_table[2][high >> 8 & 255] ^
              bytes_table[1][high >> 16 & 255] ^ bytes_table[0][high >> 24];
        data += 8;
        length -= 8;
    }
    while (length--)
        crc = crc >> 8 ^ bytes_table[0][(crc ^ *data++) & 255];
    return crc;
}

/* x to the power of so many, modulo the polynomial; as the upper half of 64 bits, the lowest power last. */
static uint64_t power_of_x(int exponent)
{
    uint32_t power = (uint32_t)1 << 31;
    while (exponent--)
        power = power & 1 ? power >> 1 ^ POLYNOMIAL : power >> 1;
    return (uint64_t)power << 32;
}

static void make_tables(void)
{
    static const unsigned char zeroes[ROW_BYTES];

    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        bytes_table[0][byte] = crc;
    }
    for (int after = 1; after < 8; after++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = bytes_table[after - 1][byte];
            bytes_table[after][byte] = crc >> 8 ^ bytes_table[0][crc & 255];
        }
    /* To append zeroes is linear: it is enough to know what becomes of each bit. */
    for (int place = 0; place < 4; place++)
        for (int bit = 0; bit < 8; bit++) {
            uint32_t carried = crc_by_table((uint32_t)1 << (8 * place + bit), zeroes, ROW_BYTES);
            for (int byte = 1 << bit; byte < 1 << (bit + 1); byte++)
                rows_table[place][byte] = rows_table[place][byte - (1 << bit)] ^ carried;
        }
    /* The first half has 64 bits more to go; a product of two reflected polynomials comes out one bit too far. */
    over_256_bytes[0] = power_of_x(8 * 256 + 64 - 1);
    over_256_bytes[1] = power_of_x(8 * 256 - 1);
    over_64_bytes[0] = power_of_x(8 * 64 + 64 - 1);
    over_64_bytes[1] = power_of_x(8 * 64 - 1);
}

#if HAS_PROCESSOR_CRC
static inline uint64_t over_a_row(uint64_t crc)
{
    return rows_table[0][crc & 255] ^ rows_table[1][crc >> 8 & 255] ^ rows_table[2][crc >> 16 & 255] ^
           rows_table[3][crc >> 24 & 255];
}

__attribute__((target("sse4.2"))) static uint32_t crc_by_processor(uint32_t start, const unsigned char *data,
                                                                   size_t length)
{
    uint64_t crc = start, word;

    while (length >= 3 * ROW_BYTES) {
        uint64_t second = 0, third = 0, word2, word3;
        for (size_t at = 0; at < ROW_BYTES; at += 8) {
            memcpy(&word, data + at, 8);
            memcpy(&word2, data + at + ROW_BYTES, 8);
            memcpy(&word3, data + at + 2 * ROW_BYTES, 8);
            crc = _mm_crc32_u64(crc, word);
            second = _mm_crc32_u64(second, word2);
            third = _mm_crc32_u64(third, word3);
        }
        crc = over_a_row(over_a_row(crc) ^ second) ^ third;
        data += 3 * ROW_BYTES;
        length -= 3 * ROW_BYTES;
    }
    while (length >= 8) {
        memcpy(&word, data, 8);
        crc = _mm_crc32_u64(crc, word);
        data += 8;
        length -= 8;
    }
    while (length--)
        crc = _mm_crc32_u8((uint32_t)crc, *data++);
    return (uint32_t)crc;
}

#define FOLDING __attribute__((target("avx512f,vpclmulqdq,sse4.2")))

static inline FOLDING __m512i carried(__m512i sum, __m512i over, __m512i next)
{
    __m512i first = _mm512_clmulepi64_epi128(sum, over, 0x00), second = _mm512_clmulepi64_epi128(sum, over, 0x11);
    return _mm512_xor_si512(_mm512_xor_si512(first, second), next);
}

static FOLDING uint32_t crc_by_folding(uint32_t start, const unsigned char *data, size_t length)
{
    if (length < 512)
        return crc_by_processor(start, data, length);

    __m512i over = _mm512_broadcast_i32x4(_mm_set_epi64x((long long)over_256_bytes[1], (long long)over_256_bytes[0]));
    __m512i sum0 = _mm512_loadu_si512(data), sum1 = _mm512_loadu_si512(data + 64);
    __m512i sum2 = _mm512_loadu_si512(data + 128), sum3 = _mm512_loadu_si512(data + 192);

    sum0 = _mm512_xor_si512(sum0, _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)start)));
    for (data += 256, length -= 256; length >= 256; data += 256, length -= 256) {
        sum0 = carried(sum0, over, _mm512_loadu_si512(data));
        sum1 = carried(sum1, over, _mm512_loadu_si512(data + 64));
        sum2 = carried(sum2, over, _mm512_loadu_si512(data + 128));
        sum3 = carried(sum3, over, _mm512_loadu_si512(data + 192));
    }
    over = _mm512_broadcast_i32x4(_mm_set_epi64x((long long)over_64_bytes[1], (long long)over_64_bytes[0]));
    sum3 = carried(carried(carried(sum0, over, sum1), over, sum2), over, sum3);
    for (; length >= 64; data += 64, length -= 64)
        sum3 = carried(sum3, over, _mm512_loadu_si512(data));

    /* It has the same checksum as all that was before it. */
    unsigned char left[64];
    _mm512_storeu_si512(left, sum3);
    return crc_by_processor(crc_by_processor(0, left, sizeof(left)), data, length);
}
#endif

#endif
