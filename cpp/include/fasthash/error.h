// The exceptions of the core. Each message names the wrong argument or file, its value and what was expected.
#pragma once

#include <stdexcept>
#include <string>

namespace fasthash {

class Error : public std::runtime_error {
 public:
    using std::runtime_error::runtime_error;
};

/// An argument is invalid.
class ArgumentError : public Error {
 public:
    using Error::Error;
};

/// A callback began a change inside a change of the same index, or one that would deadlock with another thread.
class ReentryError : public Error {
 public:
    using Error::Error;
};

/// A file is not an index file, is damaged, or was written by a newer version.
class FormatError : public Error {
 public:
    using Error::Error;
};

/// The operating system refused a file operation.
class IoError : public Error {
 public:
    IoError(int code, const std::string& step, const std::string& path)
        : Error(step + ": " + path), code_(code), step_(step), path_(path) {}

    int code() const { return code_; }
    const std::string& step() const { return step_; }
    const std::string& path() const { return path_; }

 private:
    int code_;
    std::string step_;
    std::string path_;
};

}  // namespace fasthash
