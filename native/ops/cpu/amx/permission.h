#pragma once

namespace apar::cpu {

// Whether this processor has AMX tiles for bf16 and int8 and the operating system lets this process use them.
// Linux gives tiles to a process that asks for them; the first call asks, for all threads.
bool amx_permitted();

}  // namespace apar::cpu
