// What is said when a mapped file loses its bytes while it is read.
#pragma once

namespace cepe {

// From now on a SIGBUS ends the program with status 1 and one sentence on standard error that names the file, where
// the system would end it without a word. The cause is nearly always a file that another program cut short, or a disk
// that failed: the bytes of a map are read when they are used, and no check beforehand can promise them.
void explain_bus_errors();

}  // namespace cepe
