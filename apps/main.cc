#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <sstream>

#include "apps/bus_error.h"
#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/report.h"
#include "ops/ops.h"

namespace {

// A shared library that cannot be initialised (too little memory, say) ends the program before main(); this handler
// stands before any of them, and tells it in a sentence instead of a core dump.
void stop_with_a_sentence() {
  const char* text = "cepe: the program cannot go on";
  try {
    if (const std::exception_ptr error = std::current_exception()) std::rethrow_exception(error);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", text, error.what());
    ::_exit(1);
  } catch (...) {
  }
  std::fprintf(stderr, "%s\n", text);
  ::_exit(1);
}
void set_terminate_handler() { std::set_terminate(stop_with_a_sentence); }
[[gnu::section(".preinit_array"), gnu::used]] void (*before_all_libraries)() = set_terminate_handler;

// A closed standard stream would be the first file that is opened, and a message would be written into a model.
// /dev/null opened for reading keeps its place, and writing to it fails as it does to a closed stream.
void hold_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) < 0) static_cast<void>(!::open("/dev/null", O_RDONLY));
  }
}

void add_commands(CLI::App& app) {
  cepe::add_info_command(app);
  cepe::add_generate_command(app);
  cepe::add_chat_command(app);
  cepe::add_perplexity_command(app);
  cepe::add_eval_command(app);
  cepe::add_verify_command(app);
  cepe::add_data_command(app);
  cepe::add_train_command(app);
  cepe::add_convert_command(app);
  cepe::add_export_command(app);
  cepe::add_bench_command(app);
  cepe::add_report_command(app);
  cepe::add_index_command(app);
}

void run(CLI::App& app, int argc, char** argv) {
  try {
    std::vector<std::string> arguments = cepe::read_arguments(app, argc, argv);
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // runs the chosen command's callback
  } catch (const CLI::Success& shown) {                                         // --help and --version
    std::ostringstream out, unused;
    app.exit(shown, out, unused);
    cepe::print(out.str());
  } catch (const CLI::ParseError& error) {
    cepe::fail("{}", cepe::usage_error(app, error));
  }
}

}  // namespace

int main(int argc, char** argv) {
  hold_standard_streams();
  cepe::explain_bus_errors();
  std::signal(SIGXFSZ, SIG_IGN);  // a limit of file sizes is an error of write(), with a sentence
  CLI::App app{"cepe: 128k tokens and more for any Llama-family model, by parallel context encoding", "cepe"};
  int status = 1;
  try {
    app.require_subcommand(1);
    app.set_version_flag("--version", CEPE_VERSION, "Print the version and exit");
    add_commands(app);
    cepe::format_help(app);
    cepe::configure_attention_backends();
    run(app, argc, argv);
    status = 0;
  } catch (const cepe::Error& error) {
    cepe::tell(error.what());
  } catch (const std::filesystem::filesystem_error& error) {  // a path that the system refuses
    cepe::tell(error.path1().string() + ": " + error.code().message());
  } catch (const std::bad_alloc&) {
    cepe::tell("there is not enough memory");
  } catch (const std::exception& error) {  // LibTorch's or the system's: a CUDA failure
    std::fprintf(stderr, "cepe: unexpected failure: %s\n", cepe::printable_lines(error.what()).c_str());
  }
  if (!cepe::close_output() && status == 0) {
    cepe::tell("standard output: it could not be written to its end");
    status = 1;
  }
  return status;
}
