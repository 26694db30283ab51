OTD_FN void otd_period(u32 *mix, OTD_LOCAL const u32 *cache, u32 copy, u32x4 row)
{
    mix[27] = (mix[27] ^ OTD_CACHED(mix[24])) * 33u;
    mix[19] = OTD_ROTL32(mix[19], 28u) ^ (mix[17] + mix[2]);
    mix[8] = (mix[8] ^ OTD_CACHED(mix[12])) * 33u;
    mix[7] = OTD_ROTL32(mix[7], 18u) ^ (OTD_MULHI32(mix[13], mix[22]));
    mix[1] = (mix[1] ^ OTD_CACHED(mix[16])) * 33u;
    mix[0] = OTD_ROTL32(mix[0], 19u) ^ (OTD_ROTR32(mix[13], mix[14]));
    mix[22] = (mix[22] ^ OTD_CACHED(mix[13])) * 33u;
    mix[23] = OTD_ROTL32(mix[23], 27u) ^ (mix[27] * mix[19]);
    mix[13] = (mix[13] ^ OTD_CACHED(mix[27])) * 33u;
    mix[12] = OTD_ROTL32(mix[12], 23u) ^ (OTD_MULHI32(mix[10], mix[18]));
    mix[5] = OTD_ROTR32(mix[5], 29u) ^ OTD_CACHED(mix[7]);
    mix[15] = OTD_ROTL32(mix[15], 15u) ^ (OTD_ROTR32(mix[16], mix[5]));
    mix[16] = (mix[16] ^ OTD_CACHED(mix[3])) * 33u;
    mix[18] = mix[18] * 33u + (OTD_ROTR32(mix[26], mix[12]));
    mix[30] = mix[30] * 33u + OTD_CACHED(mix[6]);
    mix[4] = (mix[4] ^ (OTD_POPCOUNT32(mix[0]) + OTD_POPCOUNT32(mix[7]))) * 33u;
    mix[31] = (mix[31] ^ OTD_CACHED(mix[18])) * 33u;
    mix[2] = mix[2] * 33u + (OTD_ROTL32(mix[14], mix[15]));
    mix[28] = mix[28] * 33u + OTD_CACHED(mix[25]);
    mix[29] = OTD_ROTL32(mix[29], 19u) ^ (mix[4] + mix[3]);
    mix[14] = mix[14] * 33u + OTD_CACHED(mix[10]);
    mix[11] = OTD_ROTL32(mix[11], 2u) ^ (OTD_MIN32(mix[24], mix[18]));
    mix[3] = (mix[3] ^ (mix[3] + mix[6])) * 33u;
    mix[21] = OTD_ROTL32(mix[21], 25u) ^ (mix[30] + mix[13]);
    mix[25] = (mix[25] ^ (OTD_ROTL32(mix[21], mix[5]))) * 33u;
    mix[24] = OTD_ROTL32(mix[24], 17u) ^ (mix[23] | mix[11]);
    mix[6] = OTD_ROTR32(mix[6], 11u) ^ (OTD_ROTR32(mix[31], mix[16]));
    mix[20] = mix[20] * 33u + (mix[14] ^ mix[24]);
    mix[17] = (mix[17] ^ (mix[0] + mix[27])) * 33u;
    mix[0] = OTD_ROTR32(mix[0], 21u) ^ row.x;
    mix[10] = mix[10] * 33u + row.y;
    mix[26] = OTD_ROTL32(mix[26], 11u) ^ row.z;
    mix[9] = (mix[9] ^ row.w) * 33u;
}
