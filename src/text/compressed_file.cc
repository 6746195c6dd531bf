#include "text/compressed_file.h"

#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "base/error.h"

namespace cepe {

// The file's own bytes, in blocks.
class CompressedFile::Stored {
 public:
  explicit Stored(const std::filesystem::path& path) : name_(path.string()), file_(std::fopen(path.c_str(), "rbe")) {
    if (!file_) fail("{}: cannot open the file: {}", name_, std::strerror(errno));
    block_.resize(size_t{1} << 17);
  }

  const std::string& name() const { return name_; }
  // What has been read and not taken; reads the next block where nothing is left. Empty at the end of the file.
  std::string_view rest() {
    if (used_ == filled_) {
      used_ = 0;
      filled_ = std::fread(block_.data(), 1, block_.size(), file_.get());
      if (filled_ == 0 && std::ferror(file_.get())) fail("{}: cannot read the file: {}", name_, std::strerror(errno));
    }
    return {block_.data() + used_, filled_ - used_};
  }
  void take(size_t count) { used_ += count; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string name_;
  std::unique_ptr<std::FILE, Close> file_;
  std::string block_;
  size_t used_ = 0, filled_ = 0;
};

class CompressedFile::Decoder {
 public:
  virtual ~Decoder() = default;
  virtual size_t read(char* out, size_t size) = 0;
};

class CompressedFile::Plain : public Decoder {
 public:
  explicit Plain(Stored& stored) : stored_(stored) {}
  size_t read(char* out, size_t size) override {
    const std::string_view rest = stored_.rest().substr(0, size);
    rest.copy(out, rest.size());
    stored_.take(rest.size());
    return rest.size();
  }

 private:
  Stored& stored_;
};

class CompressedFile::Zstd : public Decoder {
 public:
  explicit Zstd(Stored& stored) : stored_(stored), stream_(ZSTD_createDStream()) {
    require(stream_ != nullptr, "{}: no memory to decompress it", stored.name());
    // Long windows are how corpora are packed; the default would refuse anything beyond 128 MiB.
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, ZSTD_cParam_getBounds(ZSTD_c_windowLog).upperBound);
  }

  size_t read(char* out, size_t size) override {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
      const std::string_view rest = stored_.rest();
      if (rest.empty() && !output_pending_) {
        require(frame_done_, "{}: the zstd stream ends in the middle: the file is truncated", stored_.name());
        return 0;
      }
      ZSTD_inBuffer input{rest.data(), rest.size(), 0};
      const size_t status = ZSTD_decompressStream(stream_.get(), &output, &input);
      if (ZSTD_isError(status)) fail("{}: not a valid zstd stream: {}", stored_.name(), ZSTD_getErrorName(status));
      stored_.take(input.pos);
      frame_done_ = status == 0;
      // The decoder may hold more than fitted; of a frame that is done it holds nothing.
      output_pending_ = !frame_done_ && output.pos == output.size;
    }
    return output.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  Stored& stored_;
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  bool frame_done_ = true, output_pending_ = false;
};

class CompressedFile::Gzip : public Decoder {
 public:
  explicit Gzip(Stored& stored) : stored_(stored) {
    constexpr int kGzip = 16;  // added to the window: a gzip header, no zlib one
    require(inflateInit2(&stream_, MAX_WBITS + kGzip) == Z_OK, "{}: no memory to decompress it", stored.name());
  }
  ~Gzip() override { inflateEnd(&stream_); }

  size_t read(char* out, size_t size) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(size);
    while (stream_.avail_out == size) {
      const std::string_view rest = stored_.rest();
      if (rest.empty()) {
        require(member_done_, "{}: the gzip stream ends in the middle: the file is truncated", stored_.name());
        return 0;
      }
      if (member_done_ && begun_) inflateReset(&stream_);  // members follow each other
      begun_ = true;
      // zlib does not change its input; its older interface lacks the const.
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(rest.data()));
      stream_.avail_in = static_cast<uInt>(rest.size());
      const int status = inflate(&stream_, Z_NO_FLUSH);
      require(status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR, "{}: not a valid gzip stream: {}",
              stored_.name(), stream_.msg ? stream_.msg : "damaged");
      stored_.take(rest.size() - stream_.avail_in);
      member_done_ = status == Z_STREAM_END;
    }
    return size - stream_.avail_out;
  }

 private:
  Stored& stored_;
  z_stream stream_ = {};
  bool member_done_ = true, begun_ = false;
};

CompressedFile::CompressedFile(const std::filesystem::path& path) : stored_(std::make_unique<Stored>(path)) {
  const std::string name = path.filename().string();
  const std::string_view begin = stored_->rest();
  if (name.ends_with(".zst") || begin.starts_with("\x28\xB5\x2F\xFD")) {
    decoder_ = std::make_unique<Zstd>(*stored_);
  } else if (name.ends_with(".gz") || begin.starts_with("\x1F\x8B")) {
    decoder_ = std::make_unique<Gzip>(*stored_);
  } else {
    decoder_ = std::make_unique<Plain>(*stored_);
  }
}

CompressedFile::~CompressedFile() = default;

size_t CompressedFile::read(char* out, size_t size) { return decoder_->read(out, size); }

}  // namespace cepe
