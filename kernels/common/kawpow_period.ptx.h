/* In the place of a period's program when the kernel is compiled to PTX ahead: one line that names the registers,
 * for the host to put the program there in PTX (otedama-core, algo/kawpow/emit_ptx.rs). Operands 0 to 31 are the
 * registers of the mix, 32 the cache's address in shared memory, 33 the copy's offset in bytes, 34 to 37 the row, and 38 is
 * the number of copies. */
OTD_FN void otd_period(u32 *mix, OTD_LOCAL const u32 *cache, u32 copy, u32x4 row)
{
    u32 address = (u32)__cvta_generic_to_shared(cache);
    asm volatile("OTD_PERIOD %0 %1 %2 %3 %4 %5 %6 %7 %8 %9 %10 %11 %12 %13 %14 %15 %16 %17 %18 %19 "
                 "%20 %21 %22 %23 %24 %25 %26 %27 %28 %29 %30 %31 %32 %33 %34 %35 %36 %37 %38;"
         : "+r"(mix[0]), "+r"(mix[1]), "+r"(mix[2]), "+r"(mix[3]), "+r"(mix[4]), "+r"(mix[5]), "+r"(mix[6]),
           "+r"(mix[7]), "+r"(mix[8]), "+r"(mix[9]), "+r"(mix[10]), "+r"(mix[11]), "+r"(mix[12]),
           "+r"(mix[13]), "+r"(mix[14]), "+r"(mix[15]), "+r"(mix[16]), "+r"(mix[17]), "+r"(mix[18]),
           "+r"(mix[19]), "+r"(mix[20]), "+r"(mix[21]), "+r"(mix[22]), "+r"(mix[23]), "+r"(mix[24]),
           "+r"(mix[25]), "+r"(mix[26]), "+r"(mix[27]), "+r"(mix[28]), "+r"(mix[29]), "+r"(mix[30]),
           "+r"(mix[31])
         : "r"(address), "r"(copy), "r"(row.x), "r"(row.y), "r"(row.z), "r"(row.w), "n"(OTD_CACHE_COPIES));
}
