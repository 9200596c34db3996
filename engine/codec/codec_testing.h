// SPDX-License-Identifier: Apache-2.0
//
// A primary and a backup as far as the codec is concerned, for tests.
#ifndef HAVEN_ENGINE_CODEC_CODEC_TESTING_H_
#define HAVEN_ENGINE_CODEC_CODEC_TESTING_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/random.h"
#include "engine/codec/coded_frame_decoder.h"
#include "engine/codec/epoch_page_set.h"
#include "engine/codec/page_codec.h"

namespace haven {

inline HashKey TestKey(uint64_t seed = 0x5ec2e7) {
  std::array<std::byte, HashKey::kBytes> bytes;
  Random(seed).Fill(bytes);
  return HashKey(bytes);
}

// Records; those of a patch are to be filled in.
inline CodedPage MakePage(PageKind kind, uint32_t gfn) {
  CodedPage page;
  page.kind = kind;
  page.gfn = gfn;
  return page;
}
inline CodedPage SamePage(uint32_t gfn, uint16_t domain, uint32_t source) {
  CodedPage page = MakePage(PageKind::kSame, gfn);
  page.same_domain = domain;
  page.same_gfn = source;
  return page;
}

// The body of an uncompressed coded frame with these records, whose literals follow one another.
inline std::vector<std::byte> MakeCodedBody(unsigned block_shift,
                                            const std::vector<CodedPage>& records,
                                            std::span<const std::byte> literals) {
  DirectoryWriter directory;
  directory.Begin(block_shift);
  for (const CodedPage& record : records) directory.Append(record);
  std::vector<std::byte> body(kCodedHeaderBytes + literals.size() + directory.written().size());
  ByteWriter writer(body);
  writer.PutU8(0);
  writer.PutU8(static_cast<uint8_t>(block_shift));
  writer.PutU16(0);
  writer.PutU32(static_cast<uint32_t>(literals.size()));
  writer.PutU32(static_cast<uint32_t>(directory.written().size()));
  writer.PutBytes(literals);
  writer.PutBytes(directory.written());
  return body;
}

// One domain's memory with the view of it that the decoder wants.
class CodecTestGuest {
 public:
  explicit CodecTestGuest(uint64_t pages)
      : bytes_(pages * kPageBytes),
        memory_({bytes_.data()}, std::vector<uint64_t>((pages + 63) / 64, ~uint64_t{0}), pages) {}
  CodecTestGuest(const CodecTestGuest&) = delete;
  CodecTestGuest& operator=(const CodecTestGuest&) = delete;

  std::byte* Page(Gfn gfn) { return memory_.Page(gfn); }
  const GuestMemory& memory() const { return memory_; }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  GuestMemory memory_;
};

// One frame on its way.
struct TestFrame {
  uint16_t domain = 0;
  bool plain = false;
  uint32_t first_gfn = 0;
  uint32_t records = 0;
  std::vector<std::byte> body;       // Of a coded frame.
  std::vector<uint32_t> plain_gfns;  // Of a plain one, with the pages in `body`.
};

class TestPair {
 public:
  TestPair(std::vector<uint64_t> page_counts, CodecOptions options) {
    options.page_counts = page_counts;
    options.max_epoch_pages = 0;
    for (const uint64_t count : page_counts) {
      primary.push_back(std::make_unique<CodecTestGuest>(count));
      replica.push_back(std::make_unique<CodecTestGuest>(count));
      memories_.push_back(&replica.back()->memory());
      options.max_epoch_pages += count;
      dirty_.emplace_back(count);
    }
    pages = std::make_unique<EpochPageSet>(page_counts);
    codec = std::make_unique<PageCodec>(options);
    codec->BeginSession(TestKey());
  }

  void Touch(uint16_t domain, uint32_t gfn) { dirty_[domain][gfn] = true; }
  std::byte* Write(uint16_t domain, uint32_t gfn) {
    Touch(domain, gfn);
    return primary[domain]->Page(gfn);
  }

  // Encodes what is dirty.
  std::vector<TestFrame> Encode(const CodecSettings& settings) {
    std::vector<CodecRun> runs;
    for (uint16_t domain = 0; domain < dirty_.size(); ++domain) {
      for (uint32_t gfn = 0; gfn < dirty_[domain].size(); ++gfn) {
        if (!dirty_[domain][gfn]) continue;
        if (!runs.empty() && runs.back().domain == domain &&
            runs.back().first + runs.back().pages == gfn) {
          ++runs.back().pages;
        } else {
          runs.push_back({.domain = domain, .first = gfn, .pages = 1});
        }
      }
    }
    codec->BeginEpoch(settings, runs);
    std::vector<TestFrame> frames;
    for (uint16_t domain = 0; domain < dirty_.size(); ++domain) {
      std::vector<CodecPage> batch;
      for (uint32_t gfn = 0; gfn < dirty_[domain].size(); ++gfn) {
        if (dirty_[domain][gfn]) batch.push_back({gfn, primary[domain]->Page(gfn)});
        if (batch.size() == frame_pages || (gfn + 1 == dirty_[domain].size() && !batch.empty())) {
          AddFrame(domain, batch, &frames);
          batch.clear();
        }
      }
    }
    return frames;
  }

  void Acknowledge() {
    codec->Acknowledge();
    for (auto& domain : dirty_) domain.assign(domain.size(), false);
  }
  void Fail() { codec->Fail(); }

  // What the backup does before it acknowledges.
  absl::Status Check(const std::vector<TestFrame>& frames) {
    pages->Begin();
    for (const TestFrame& frame : frames) {
      if (frame.plain) {
        for (const uint32_t gfn : frame.plain_gfns) {
          if (!pages->AddWritten(frame.domain, gfn, 1)) return absl::InternalError("source");
        }
        continue;
      }
      decoder.Open({frame.first_gfn, frame.records, frame.body});
      while (decoder.Next(&page_)) {
        bool good = pages->AddWritten(frame.domain, page_.gfn, 1);
        if (page_.kind == PageKind::kSame && !page_.same_in_frame) {
          good = good && pages->AddSource(page_.same_domain, page_.same_gfn);
        }
        if (page_.kind == PageKind::kPatch) {
          for (uint32_t i = 0; i < page_.copy_count; ++i) {
            good = good && pages->AddSource(page_.copies[i].domain, page_.copies[i].gfn);
          }
        }
        if (!good) return absl::InvalidArgumentError("a source is written by the epoch");
      }
      if (!decoder.status().ok()) return decoder.status();
    }
    return absl::OkStatus();
  }

  // Applies one frame, but no more than `limit` of its pages.
  void Apply(const TestFrame& frame, uint32_t limit = UINT32_MAX) {
    if (frame.plain) {
      for (size_t i = 0; i < frame.plain_gfns.size() && i < limit; ++i) {
        std::memcpy(replica[frame.domain]->Page(frame.plain_gfns[i]),
                    frame.body.data() + i * kPageBytes, kPageBytes);
      }
      return;
    }
    decoder.Open({frame.first_gfn, frame.records, frame.body});
    for (uint32_t done = 0; done < limit && decoder.Next(&page_); ++done) {
      ApplyCodedPage(page_, decoder.block_shift(), memories_,
                     replica[frame.domain]->Page(page_.gfn));
    }
    HAVEN_CHECK_OK(decoder.status());
  }

  bool Equal() const {
    for (size_t i = 0; i < primary.size(); ++i) {
      if (primary[i]->bytes() != replica[i]->bytes()) return false;
    }
    return true;
  }

  // Encodes, checks, applies and acknowledges; the bytes of the frames' bodies.
  size_t Replicate(const CodecSettings& settings) {
    const std::vector<TestFrame> frames = Encode(settings);
    HAVEN_CHECK_OK(Check(frames));
    size_t bytes = 0;
    for (const TestFrame& frame : frames) {
      Apply(frame);
      bytes += frame.body.size();
    }
    Acknowledge();
    return bytes;
  }

  std::vector<std::unique_ptr<CodecTestGuest>> primary;
  std::vector<std::unique_ptr<CodecTestGuest>> replica;
  std::unique_ptr<PageCodec> codec;
  std::unique_ptr<EpochPageSet> pages;
  CodecWorker worker;
  CodedFrameDecoder decoder;
  size_t frame_pages = kMaxCodedPages;

 private:
  void AddFrame(uint16_t domain, const std::vector<CodecPage>& batch,
                std::vector<TestFrame>* frames) {
    std::vector<std::byte> out(batch.size() * kPageBytes);
    const EncodedFrame encoded = codec->EncodeFrame(worker, domain, batch, out);
    if (encoded.outcome == EncodedFrame::Outcome::kUnchanged) return;
    TestFrame& frame = frames->emplace_back();
    frame.domain = domain;
    frame.plain = encoded.outcome == EncodedFrame::Outcome::kPlain;
    if (frame.plain) {
      for (const CodecPage& page : batch) {
        frame.plain_gfns.push_back(page.gfn);
        frame.body.insert(frame.body.end(), page.bytes, page.bytes + kPageBytes);
      }
      return;
    }
    HAVEN_CHECK_LT(encoded.body_bytes, out.size());
    frame.first_gfn = encoded.first_gfn;
    frame.records = encoded.records;
    out.resize(encoded.body_bytes);
    frame.body = std::move(out);
  }

  std::vector<const GuestMemory*> memories_;
  std::vector<std::vector<bool>> dirty_;
  CodedPage page_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_CODEC_TESTING_H_
