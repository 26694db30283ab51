// Finds the nonce of Bitcoin's genesis block again, on every core, and proves it.
#include <otedama.hpp>

#include <future>
#include <iostream>
#include <utility>

// The header of 80 bytes; the last four are the nonce, left at zero.
static const std::uint8_t header[80] =
    "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    "\x3b\xa3\xed\xfd\x7a\x7b\x12\xb2\x7a\xc7\x2c\x3e\x67\x76\x8f\x61"
    "\x7f\xc8\x1b\xc3\x88\x8a\x51\x32\x3a\x9f\xb8\xaa\x4b\x1e\x5e\x4a"
    "\x29\xab\x5f\x49\xff\xff\x00\x1d";

int main() {
    try {
        otedama::job job;
        job.input = {header, sizeof header};
        job.target = otedama::target_from_bits(0x1d00ffff);
        otedama::space space;
        space.nonce_start = 2080000000; // all of the space takes a minute or so

        std::promise<std::uint64_t> nonce;
        otedama::engine engine({}, [&nonce, found = false](const otedama_event &event) mutable {
            if (event.kind == OTEDAMA_EVENT_SHARE && !std::exchange(found, true)) {
                nonce.set_value(event.share.nonce);
            }
        });
        engine.replace(job, &space);
        std::cout << "nonce " << nonce.get_future().get() << std::endl;
    } catch (const otedama::error &error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
}
