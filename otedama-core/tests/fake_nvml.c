/* Not NVML: the few functions of it that the back end calls, for the card of fake_cuda.c. Its power reads 250 W while
 * its counter of energy goes by 300. */
#include <string.h>
#include <time.h>

typedef int result; /* nvmlReturn_t */

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_FOUND = 6 };

static int card;

result nvmlInit_v2(void) { return SUCCESS; }
result nvmlShutdown(void) { return SUCCESS; }

result nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **device)
{
    *device = &card;
    return strcmp(address, "0000:3b:00.0") == 0 ? SUCCESS : NOT_FOUND;
}

result nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius)
{
    *celsius = 61;
    return device == &card && sensor == 0 ? SUCCESS : INVALID_ARGUMENT;
}

result nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
    *milliwatts = 250000;
    return device == &card ? SUCCESS : INVALID_ARGUMENT;
}

result nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    *millijoules = 300 * (1000ull * now.tv_sec + now.tv_nsec / 1000000);
    return device == &card ? SUCCESS : INVALID_ARGUMENT;
}
