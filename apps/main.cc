#include <cstdio>
#include <exception>

#include "apps/bus_error.h"
#include "apps/commands.h"
#include "base/error.h"
#include "ops/ops.h"

int main(int argc, char** argv) {
  cepe::explain_bus_errors();
  CLI::App app{"cepe: 128k tokens and more for any Llama-family model, by parallel context encoding"};
  app.require_subcommand(1);
  app.set_version_flag("--version", CEPE_VERSION);
  cepe::add_info_command(app);
  cepe::add_generate_command(app);
  cepe::add_perplexity_command(app);
  cepe::add_verify_command(app);
  cepe::add_data_command(app);
  cepe::add_train_command(app);
  cepe::add_convert_command(app);
  cepe::add_export_command(app);
  cepe::add_bench_command(app);
  try {
    cepe::configure_attention_backends();
    app.parse(argc, argv);  // runs the chosen command's callback
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const cepe::Error& error) {
    std::fprintf(stderr, "cepe: %s\n", error.what());
  } catch (const std::exception& error) {  // LibTorch's or the system's: out of memory, a CUDA failure
    std::fprintf(stderr, "cepe: unexpected failure: %s\n", error.what());
  }
  return 1;
}
