// SPDX-License-Identifier: Apache-2.0
#include "bench/igzip.h"

namespace haven {
namespace {

uint8_t* Unsigned(std::byte* bytes) { return reinterpret_cast<uint8_t*>(bytes); }
// The library's prototypes lack a const; it only reads.
uint8_t* Unsigned(const std::byte* bytes) { return Unsigned(const_cast<std::byte*>(bytes)); }

}  // namespace

size_t Igzip::Compress(std::span<const std::byte> from, std::span<std::byte> to) {
  isal_deflate_stateless_init(&stream_);
  stream_.level = 1;
  stream_.level_buf = level_.data();
  stream_.level_buf_size = static_cast<uint32_t>(level_.size());
  stream_.next_in = Unsigned(from.data());
  stream_.avail_in = static_cast<uint32_t>(from.size());
  stream_.next_out = Unsigned(to.data());
  stream_.avail_out = static_cast<uint32_t>(to.size());
  stream_.end_of_stream = 1;
  return isal_deflate_stateless(&stream_) == COMP_OK ? stream_.total_out : 0;
}

bool Igzip::Expand(std::span<const std::byte> from, std::span<std::byte> to) {
  isal_inflate_init(&inflate_);
  inflate_.crc_flag = ISAL_DEFLATE;
  inflate_.next_in = Unsigned(from.data());
  inflate_.avail_in = static_cast<uint32_t>(from.size());
  inflate_.next_out = Unsigned(to.data());
  inflate_.avail_out = static_cast<uint32_t>(to.size());
  return isal_inflate_stateless(&inflate_) == ISAL_DECOMP_OK && inflate_.total_out == to.size();
}

}  // namespace haven
