#include "file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "failure.h"
#include "text.h"

namespace oscar::cli {

namespace {

[[noreturn]] void refuse(const std::string& path, const char* reason) {
  bad_input(text("%s: %s", printable(path).c_str(), reason));
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags, mode_t mode = 0)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  // Not blocking: a named pipe without a writer must not hold the program up before it is refused.
  const Descriptor file(path, O_RDONLY | O_NONBLOCK);
  if (file.get() < 0) refuse(path, std::strerror(errno));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) refuse(path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) refuse(path, "is a folder, wanted a file");
  if (!S_ISREG(status.st_mode)) refuse(path, "is no regular file");
  if (status.st_size == 0) refuse(path, "the file is empty");
  const auto size = static_cast<size_t>(status.st_size);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (memory == MAP_FAILED) refuse(path, std::strerror(errno));
  bytes_ = {static_cast<const uint8_t*>(memory), size};
}

MappedFile::~MappedFile() { ::munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size()); }

void write_file(const std::string& path, std::span<const uint8_t> bytes, bool replace) {
  const std::string beside = text("%s.part%d", path.c_str(), static_cast<int>(::getpid()));
  {
    const Descriptor file(beside, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (file.get() < 0) refuse(beside, std::strerror(errno));
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t n = ::write(file.get(), bytes.data() + done, bytes.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        const int error = errno;
        ::unlink(beside.c_str());
        refuse(path, std::strerror(error));
      }
      done += static_cast<size_t>(n);
    }
  }
  // link() refuses an existing name in one step; rename() replaces it in one.
  const int failed = replace ? ::rename(beside.c_str(), path.c_str()) : ::link(beside.c_str(), path.c_str());
  const int error = errno;
  if (failed != 0 || !replace) ::unlink(beside.c_str());
  if (failed != 0 && error == EEXIST) refuse(path, "exists already; --force replaces it");
  if (failed != 0) refuse(path, std::strerror(error));
}

}  // namespace oscar::cli
