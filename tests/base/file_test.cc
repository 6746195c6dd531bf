#include "base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/error.h"
#include "base/output_file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using ::testing::HasSubstr;

std::string text_of(const MappedFile& file) {
  auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Writes beyond `bytes` fail with EFBIG while this lives: a full disk, as far as a program can tell.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    old_handler_ = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old_limit_);
    rlimit limit = old_limit_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_limit_);
    signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_limit_{};
  sighandler_t old_handler_;
};

TEST(ReadFile, GivesEveryByteOfFilesOfAnySize) {
  TemporaryDirectory directory;
  for (size_t size : {0, 1, 65535, 65536, 65537, 300000}) {
    std::string content(size, '\0');
    for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 31 + i / 256);
    std::ofstream(directory / "file", std::ios::binary) << content;
    EXPECT_EQ(read_file(directory / "file"), content);
    MappedFile mapped(directory / "file");
    EXPECT_EQ(text_of(mapped), content);
  }
}

TEST(ReadFile, ReadsFilesThatReportNoSize) { EXPECT_THAT(read_file("/proc/self/status"), HasSubstr("VmRSS")); }

TEST(ReadFile, NamesTheFileAndTheReason) {
  TemporaryDirectory directory;
  std::string missing = directory / "missing", folder = directory.path();
  EXPECT_EQ(error_of<Error>([&] { read_file(missing); }),
            missing + ": cannot open the file: No such file or directory");
  EXPECT_EQ(error_of<Error>([&] { MappedFile file(missing); }),
            missing + ": cannot open the file: No such file or directory");
  EXPECT_EQ(error_of<Error>([&] { read_file(folder); }), folder + ": cannot read the file: Is a directory");
  EXPECT_EQ(error_of<Error>([&] { MappedFile file(folder); }), folder + ": expected a regular file, found a directory");
}

TEST(MappedFile, MovesItsMap) {
  TemporaryDirectory directory;
  write_file(directory / "a", "alpha");
  write_file(directory / "b", "beta");
  MappedFile a(directory / "a");
  MappedFile moved(std::move(a));
  EXPECT_EQ(text_of(moved), "alpha");
  moved = MappedFile(directory / "b");
  EXPECT_EQ(text_of(moved), "beta");
  EXPECT_EQ(moved.path(), directory / "b");
}

TEST(AtomicFile, ShowsTheNewContentOnlyAfterCommit) {
  TemporaryDirectory directory;
  write_file(directory / "file", "old");
  AtomicFile file(directory / "file");
  file.write("new ");
  file.write("content");
  EXPECT_EQ(read_file(directory / "file"), "old");
  file.commit();
  EXPECT_EQ(read_file(directory / "file"), "new content");
  EXPECT_EQ(directory.entries(), 1u);
  EXPECT_THAT(error_of<Error>([&] { file.write("more"); }), HasSubstr("written to after it was finished"));
}

TEST(AtomicFile, LeavesNothingBehindWithoutCommit) {
  TemporaryDirectory directory;
  {
    AtomicFile(directory / "file").write("half");
  }
  EXPECT_EQ(directory.entries(), 0u);
}

TEST(AtomicFile, RemovesWhatAKilledProcessLeftAndNothingElse) {
  TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "run");
  const auto run = [&](const char* name) { return (directory / "run").string() + "/" + name; };
  for (const char* name : {".cepe-1-0.tmp", ".cepe-99999999-3.tmp", ".cepe-2-0.tmp", ".cepe-kept.tmp", "other.tmp"})
    std::ofstream(run(name)) << "half";
  const int living = open(run(".cepe-2-0.tmp").c_str(), O_WRONLY | O_CLOEXEC);  // as another process writes it
  ASSERT_EQ(flock(living, LOCK_EX | LOCK_NB), 0);
  write_file(run("file"), "content");
  EXPECT_FALSE(std::filesystem::exists(run(".cepe-1-0.tmp")));
  EXPECT_FALSE(std::filesystem::exists(run(".cepe-99999999-3.tmp")));
  for (const char* name : {".cepe-2-0.tmp", ".cepe-kept.tmp", "other.tmp", "file"})
    EXPECT_TRUE(std::filesystem::exists(run(name))) << name;
  close(living);
}

TEST(AtomicFile, LeavesNothingWhenTheProcessIsKilled) {
  TemporaryDirectory directory;
  const pid_t child = fork();
  if (child == 0) {
    AtomicFile file(directory / "file");
    file.write("half");
    raise(SIGKILL);
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  ASSERT_TRUE(WIFSIGNALED(state));
  // On a file system without unnamed files a temporary is left, which the next writer in the directory removes.
  const int unnamed = open(directory.path().c_str(), O_TMPFILE | O_WRONLY, 0600);
  EXPECT_EQ(directory.entries(), unnamed < 0 ? 1u : 0u);
  if (unnamed >= 0) close(unnamed);
  {
    AtomicFile next(directory / "next");
  }
  EXPECT_EQ(directory.entries(), 0u);
}

TEST(WriteOutput, WritesIntoDevicesAndPipesAndReplacesFiles) {
  TemporaryDirectory directory;
  write_output(directory / "file", "one");
  write_output(directory / "file", "two");
  EXPECT_EQ(read_file(directory / "file"), "two");
  EXPECT_EQ(directory.entries(), 1u);
  write_output("/dev/null", "gone");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_EQ(error_of<Error>([] { write_output("/dev/full", std::string(100000, 'x')); }),
            "/dev/full: cannot write the file: No space left on device");

  const std::string pipe_name = directory / "pipe";
  ASSERT_EQ(mkfifo(pipe_name.c_str(), 0600), 0);
  check_writable(pipe_name);  // does not wait for a reader
  std::string read;
  std::thread reader([&] { read = read_file(pipe_name); });
  write_output(pipe_name, "through the pipe");
  reader.join();
  EXPECT_EQ(read, "through the pipe");
}

TEST(WriteOutput, KnowsStandardOutputByEveryName) {
  TemporaryDirectory directory;
  EXPECT_TRUE(is_standard_output("-"));
  EXPECT_TRUE(is_standard_output("/dev/stdout"));
  EXPECT_FALSE(is_standard_output(directory / "file"));
  testing::internal::CaptureStdout();
  std::fputs("table\n", stdout);
  write_output("/dev/stdout", "{}\n");
  write_output("-", "[]\n");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "table\n{}\n[]\n");
}

TEST(WriteOutput, ChecksBeforeTheWork) {
  TemporaryDirectory directory;
  check_writable(directory / "file");
  EXPECT_EQ(directory.entries(), 0u);
  EXPECT_THAT(error_of<Error>([&] { check_writable(directory / "no/file"); }), HasSubstr("cannot create a file"));
  EXPECT_THAT(error_of<Error>([&] { check_writable(directory.path()); }), HasSubstr("found a directory"));
}

TEST(AtomicFile, KeepsTheOldFileWhenTheDiskIsFull) {
  TemporaryDirectory directory;
  const std::string path = directory / "checkpoint", old(3000, 'o'), chunk(3000, 'n');
  write_file(path, old);
  std::string message;
  {
    FileSizeLimit limit(4096);
    message = error_of<Error>([&] {
      AtomicFile file(path);
      file.write(chunk);
      file.write(chunk);
      file.commit();
    });
  }
  EXPECT_EQ(message, path + ": cannot write the file: File too large");
  EXPECT_EQ(read_file(path), old);
  EXPECT_EQ(directory.entries(), 1u);  // no temporary file
}

TEST(AtomicFile, NamesTheFileAndTheReason) {
  TemporaryDirectory directory;
  std::string lost = directory / "no/such/file", folder = directory.path();
  EXPECT_EQ(error_of<Error>([&] { AtomicFile file(lost); }),
            lost + ": cannot create a file in " + (directory / "no/such").string() + ": No such file or directory");
  EXPECT_EQ(error_of<Error>([&] { AtomicFile file(folder); }),
            folder + ": cannot write: expected a regular file, found a directory");
  const std::string longest = directory / std::string(300, 'x');
  EXPECT_EQ(error_of<Error>([&] { AtomicFile file(longest); }), longest + ": cannot write: File name too long");
  std::filesystem::create_symlink("loop", directory / "loop");
  EXPECT_EQ(
      error_of<Error>([&] { AtomicFile file(directory / "loop"); }),
      (directory / "loop").string() + ": cannot write: the link cannot be followed: Too many levels of symbolic links");
  EXPECT_EQ(error_of<Error>([&] { AtomicFile file("/dev/full"); }),
            "/dev/full: cannot write: expected a regular file, found a device or pipe");
}

TEST(AtomicFile, ReplacesTheTargetOfALinkAndKeepsItsPermissions) {
  TemporaryDirectory directory;
  write_file(directory / "target", "old");
  chmod((directory / "target").c_str(), 0640);
  std::filesystem::create_symlink("target", directory / "link");
  write_file(directory / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(directory / "link"));
  EXPECT_EQ(read_file(directory / "target"), "new");
  struct stat status{};
  stat((directory / "target").c_str(), &status);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST(Sha256, AgreesWithThePublishedVectors) {
  TemporaryDirectory directory;
  // FIPS 180-4 examples: "abc", the empty message, and a million times "a".
  write_file(directory / "file", "abc");
  EXPECT_EQ(sha256_file(directory / "file"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  write_file(directory / "file", "");
  EXPECT_EQ(sha256_file(directory / "file"), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  write_file(directory / "file", std::string(1000000, 'a'));
  EXPECT_EQ(sha256_file(directory / "file"), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace cepe
