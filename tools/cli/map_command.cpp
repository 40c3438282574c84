// oscar map
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "attention_error.h"
#include "command.h"
#include "half.h"
#include "map_shade.h"
#include "output.h"
#include "progress.h"
#include "text.h"

namespace oscar::cli {

namespace {

constexpr const char* kFooter = R"(Draws which tokens attention looks at, as an SVG: a row for each KV head of each
layer, a column for a few neighbouring tokens. The darker, the more mass the
tokens have received from the queries after them, summed over the query heads of
the KV head and divided by the queries that could see them; the scale is
logarithmic. Bars above the map mark what a cache keeps exact: the first tokens
(--sink) and the newest (--recent). Red ticks are the tokens that the cache
chose to keep at more bits, in profile 2bit.

DUMP is what oscar evaluate reads.

Example:
  oscar map dump.safetensors -o map.svg --layers 0-3)";

struct Options {
  std::string dump, output, layers;
  uint32_t sink = 4, recent = 32;
  bool force = false, json = false;
};

constexpr Eigen::Index kMostColumns = 256;

struct Row {
  uint32_t layer = 0, head = 0;
  std::vector<double> mass;       // of a column: mean over its tokens
  std::vector<uint32_t> refined;  // token indices
};

struct Range {
  uint32_t first = 0, last = 0;
};

Range layers_of(const std::string& given, uint32_t n_layers) {
  if (given.empty()) return {0, n_layers - 1};
  unsigned first = 0, last = 0;
  int used = 0;
  if (std::sscanf(given.c_str(), "%4u-%4u%n", &first, &last, &used) != 2 || static_cast<size_t>(used) != given.size() ||
      last < first || last >= n_layers)
    bad_usage(text("--layers is \"%s\", wanted: FIRST-LAST within 0-%u", printable(given).c_str(), n_layers - 1));
  return {first, last};
}

float number_at(const oscar_tensor& t, uint64_t index) {
  if (t.dtype_bits == 32) return static_cast<const float*>(t.data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(t.data)[index];
  return t.dtype_code == OSCAR_DTYPE_BFLOAT ? from_bf16(bits) : from_f16(bits);
}

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// [n_tokens, dim] of one head.
Rows rows_of(const oscar_tensor& t, uint32_t head) {
  const int64_t n = t.shape[0], heads = t.shape[1], dim = t.shape[2];
  Rows rows(n, dim);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t d = 0; d < dim; ++d) rows(i, d) = number_at(t, static_cast<uint64_t>((i * heads + head) * dim + d));
  return rows;
}

// Adds what the queries of one head give to every token: causal softmax of q k / sqrt(dim).
void add_mass(const Rows& q, const Rows& k, Eigen::VectorXd& mass) {
  const float scale = 1 / std::sqrt(static_cast<float>(q.cols()));
  for (Eigen::Index i = 0; i < q.rows(); ++i) {
    Eigen::ArrayXf seen = (k.topRows(i + 1) * q.row(i).transpose()).array() * scale;
    seen = (seen - seen.maxCoeff()).exp();
    mass.head(i + 1).array() += (seen / seen.sum()).cast<double>();
  }
}

std::vector<double> columns_of(const Eigen::VectorXd& mass) {
  const Eigen::Index width = (mass.size() + kMostColumns - 1) / kMostColumns;
  std::vector<double> columns;
  for (Eigen::Index first = 0; first < mass.size(); first += width)
    columns.push_back(mass.segment(first, std::min(width, mass.size() - first)).mean());
  return columns;
}

std::vector<Row> rows_of_layer(const Dump& dump, uint32_t layer, const Options& options) {
  Choice choice;
  choice.n_sink = options.sink;
  choice.n_recent = options.recent;
  const LayerRun run = run_layer(dump, layer, choice);
  const uint32_t group = dump.n_q_heads / dump.n_kv_heads;
  std::vector<Row> rows;
  for (uint32_t h = 0; h < dump.n_kv_heads; ++h) {
    Eigen::VectorXd mass = Eigen::VectorXd::Zero(dump.n_tokens);
    const Rows k = rows_of(dump.k(layer, 0, dump.n_tokens), h);
    for (uint32_t g = 0; g < group; ++g) add_mass(rows_of(dump.q(layer, 0, dump.n_tokens), h * group + g), k, mass);
    for (uint32_t i = 0; i < dump.n_tokens; ++i) mass[i] /= static_cast<double>(group) * (dump.n_tokens - i);
    Row row{layer, h, columns_of(mass), {}};
    for (uint32_t i = 0; i < dump.n_tokens; ++i)
      if (std::isinf(run.scores[h][i])) row.refined.push_back(i);
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string label(double x, double y, const char* anchor, const std::string& words) {
  return text("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, words.c_str());
}

std::string to_svg(const Dump& dump, const std::vector<Row>& rows, const Options& options) {
  constexpr double kLeft = 90, kTop = 64, kWidth = 800, kHeight = 12;
  const double per_token = kWidth / dump.n_tokens, bottom = kTop + kHeight * static_cast<double>(rows.size());
  double most = 0;
  for (const Row& row : rows) most = std::max(most, *std::max_element(row.mass.begin(), row.mass.end()));
  std::string svg = text("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
                         "font-family=\"sans-serif\" font-size=\"11\">\n"
                         "<style>svg{background:#fff;fill:#222}.k{fill:#1a7f37}.r{fill:#c8102e}</style>\n",
                         kLeft + kWidth + 20, bottom + 60);
  svg += label(kLeft, 20, "start",
               text("Attention that tokens receive, %u tokens; darkest %.3g, each lighter quarter is ten times less",
                    dump.n_tokens, most));
  svg += label(kLeft, 38, "start", "green: exact in a cache (first, newest); red: kept at more bits");
  const double recent = std::min(options.recent, dump.n_tokens), sink = std::min(options.sink, dump.n_tokens);
  svg += text("<rect class=\"k\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"4\"/>\n", kLeft, kTop - 8,
              sink * per_token);
  svg += text("<rect class=\"k\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"4\"/>\n",
              kLeft + kWidth - recent * per_token, kTop - 8, recent * per_token);
  for (size_t r = 0; r < rows.size(); ++r) {
    const Row& row = rows[r];
    const double y = kTop + kHeight * static_cast<double>(r), width = kWidth / static_cast<double>(row.mass.size());
    if (row.head == 0) svg += label(kLeft - 6, y + 10, "end", text("layer %u", row.layer));
    for (size_t c = 0; c < row.mass.size(); ++c)
      svg += text("<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\"/>\n",
                  kLeft + width * static_cast<double>(c), y, width + 0.1, kHeight - 1,
                  map_colour(map_depth(row.mass[c], most)).c_str());
    for (const uint32_t token : row.refined)
      svg += text("<rect class=\"r\" x=\"%.2f\" y=\"%.1f\" width=\"1.2\" height=\"4\"/>\n", kLeft + token * per_token,
                  y + kHeight - 5);
  }
  for (int quarter = 0; quarter <= 4; ++quarter)
    svg += label(kLeft + kWidth * quarter / 4, bottom + 16, "middle",
                 grouped(uint64_t{dump.n_tokens} * static_cast<uint64_t>(quarter) / 4));
  return svg + label(kLeft + kWidth / 2, bottom + 36, "middle", "token") + "</svg>\n";
}

Exit run(const Options& options) {
  const Dump dump(options.dump);
  const Range layers = layers_of(options.layers, dump.n_layers);
  std::vector<Row> rows;
  {
    const Progress progress("mapping");
    for (uint32_t layer = layers.first; layer <= layers.last; ++layer) {
      progress.step(layer - layers.first, layers.last - layers.first + 1);
      for (Row& row : rows_of_layer(dump, layer, options)) rows.push_back(std::move(row));
    }
  }
  const std::string svg = to_svg(dump, rows, options);
  write_file(options.output, {reinterpret_cast<const uint8_t*>(svg.data()), svg.size()}, options.force);
  if (options.json) {
    OrderedJson list = OrderedJson::array();
    for (const Row& row : rows)
      list.push_back({{"layer", row.layer}, {"kv_head", row.head}, {"mass", row.mass}, {"refined", row.refined}});
    print_json({{"command", "map"},
                {"file", options.output},
                {"n_tokens", dump.n_tokens},
                {"sink", options.sink},
                {"recent", options.recent},
                {"rows", list}});
  } else {
    std::printf("%s: %zu rows, %u tokens\n", printable(options.output).c_str(), rows.size(), dump.n_tokens);
  }
  return Exit::kYes;
}

}  // namespace

void add_map(Program& program) {
  auto o = std::make_shared<Options>();
  Command(program, "map", "which tokens attention looks at, as an image", kFooter)
      .positional("DUMP", o->dump, "a .safetensors or .npz file with q, k and v")
      .needed_text("-o,--output", o->output, "FILE", "the SVG to write")
      .text("--layers", o->layers, "RANGE", "these only, FIRST-LAST")
      .number("--sink", o->sink, 0, 1u << 20, "TOKENS", "first tokens that stay exact (default 4)")
      .number("--recent", o->recent, 1, 1u << 20, "TOKENS", "newest tokens that are exact (default 32)")
      .flag("--force", o->force, "replace the file where it exists")
      .flag("--json", o->json, "one JSON document, with all numbers")
      .on_call(o, run);
}

}  // namespace oscar::cli
