// The errors of the core. Each says which argument or which part of a file is wrong and what was expected.
#pragma once

#include <stdexcept>
#include <string>

namespace fasthash {

class Error : public std::runtime_error {
 public:
    using std::runtime_error::runtime_error;
};

/// A value that the caller passed is not acceptable.
class ArgumentError : public Error {
 public:
    using Error::Error;
};

/// A change was begun by a callback inside a change of the same index, or where threads would wait for each other.
class ReentryError : public Error {
 public:
    using Error::Error;
};

/// A file is not an index of this library, is damaged, or was written by a newer version.
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
