"""A page for docs/results from the raw results of one or more runs: nothing on it is typed. Without results it is the empty page,
docs/results/gpu-template.md."""

from typing import Callable, Dict, List, Optional

from .goals import CONTEXT, STEP_GOALS, goals

NOT_MEASURED = ""
MOST_WORDS = 300  # of a failure; the raw file has the rest


def page(lines: List[dict], files: List[str]) -> str:
    sections = [head(lines, files), goal_table(lines), step_table(lines), kernel_table(lines), format_table(lines), peer_table(lines),
                attention_table(lines), other_table(lines), part_table(lines), red_list(lines)]
    return "\n\n".join(section for section in sections if section) + "\n"


def head(lines: List[dict], files: List[str]) -> str:
    begin = first(lines, "verify", "begin")
    if begin is None:
        return ("# DATE, GPU\n\nThe empty page: no GPU has been measured with it. `native/gpu/report RESULTS...` fills it from what "
                "`native/gpu/verify`\nleft, and nothing on it is typed.")
    gpu = ", ".join(begin[key] for key in ("gpu", "driver", "memory") if key in begin) or "no GPU"
    runs = [f"`native/gpu/verify {line['what']}`" for line in lines if line.get("part") == "verify" and line["case"] == "begin"]
    ceilings = last(lines, "floors", "ceilings") or {}
    said = ""
    if ceilings:
        how = "assumed, not measured" if ceilings.get("assumed") else "measured in this run"
        said = (f"\n\nA copy reaches {ceilings['copy_bytes_per_s'] / 1e12:.2f} TB/s and a bf16 product "
                f"{ceilings['bf16_flop_per_s'] / 1e12:.0f} TFLOP/s ({how}); floors are made from them.")
    return (f"# {begin['date'][:10]}, {gpu.split(',')[0]}\n\n{gpu} (name, driver, memory); commit {begin.get('commit', 'unknown')}; "
            f"{begin.get('nvcc', 'nvcc unknown')}; {', '.join(runs)}.\nRaw results: {', '.join(files)}. Made by `native/gpu/report`.{said}")


def goal_table(lines: List[dict]) -> str:
    rows = [[name, number(each["value"]), f"{each['goal']:g}", {True: "yes", False: "no", None: ""}[each["met"]]]
            for name, each in goals(lines).items()]
    return table("Goals", ["goal", "measured", "wanted", "met"], rows)


def step_table(lines: List[dict]) -> str:
    """Of a Llama-7B shape in bf16."""
    rows = []
    for name in STEP_GOALS:
        case = f"{name} {CONTEXT}" if name.startswith("decode") else name
        for part, gemm in [("steps", "mma"), ("steps_wgmma", "wgmma")]:
            line = last(lines, part, case) or {}
            rows.append([name, gemm, number(line.get("tokens_per_s")), number(line.get("step_us")), number(line.get("device_us")),
                         number(line.get("floor_us")), number(line.get("share_of_floor")), number(line.get("host_share"))])
    return table(f"Steps: Llama-7B shape, bf16, decoding with {CONTEXT.replace(' ', ' shared and ')} own tokens",
                 ["case", "products", "tok/s", "step, us", "on the device, us", "floor, us", "of floor", "host's share"], rows)


def kernel_table(lines: List[dict]) -> str:
    rows = [[line["case"], number(line["us"]), number(line["bytes_per_s"] / 1e12), number(line.get("share_of_copy")),
             number(line.get("share_of_product"))]
            for line in latest(lines, lambda line: "bytes_per_s" in line and line["part"] in ("kernels", "cublaslt_speed", "sampling"))]
    return table("Kernels by themselves, one layer", ["kernel", "us", "TB/s", "of the copy", "of the product"], rows)


def format_table(lines: List[dict]) -> str:
    rows = [[line["dtype"], line["case"], number(line["tokens_per_s"]), number(line.get("share_of_floor"))]
            for line in latest(lines, lambda line: line["part"] == "formats" and "tokens_per_s" in line)]
    return table("Formats", ["weights", "case", "tok/s", "of its floor"], rows)


def peer_table(lines: List[dict]) -> str:
    rows = [[line["case"], line.get("kind", ""), number(line["tokens_per_s"]), number(line.get("step_us")), str(line.get("torch", ""))]
            for line in latest(lines, lambda line: line["part"] == "peer" and "tokens_per_s" in line)]
    return table("PyTorch on the same shape (its steps by the device's clock, ours by the host's)", ["case", "how", "tok/s", "step, us", "torch"], rows)


def attention_table(lines: List[dict]) -> str:
    found: Dict[str, Dict[str, float]] = {}
    for line in lines:
        if line.get("part") == "attention" and "step_us" in line:
            found.setdefault(line["case"], {})[line["attention"]] = line["step_us"]
    rows = [[case, *(number(by.get(choice)) for choice in ("shared", "plain", "auto"))] for case, by in found.items()]
    return table("Shared and plain attention, whole steps, us", ["case", "shared", "plain", "auto"], rows)


def other_table(lines: List[dict]) -> str:
    """Everything else that has a figure."""
    told = {"steps", "steps_wgmma", "kernels", "cublaslt_speed", "formats", "peer", "attention", "verify", "floors"}
    ignored = {"part", "case", "detail", "result"}
    rows = []
    for line in latest(lines, lambda line: line["part"] not in told and line["case"] not in ("end", "programs", "open")):
        figures = [f"{key} {number(value)}" for key, value in line.items()
                   if key not in ignored and isinstance(value, (int, float)) and not isinstance(value, bool)]
        if figures and "bytes_per_s" not in line and line.get("result") != "failed":
            rows.append([line["part"], line["case"], ", ".join(figures)])
    return table("Everything else", ["part", "case", "figures"], rows)


def part_table(lines: List[dict]) -> str:
    rows = [[line["part"], line["result"], number(line.get("seconds")), cell(line.get("why", ""))]
            for line in lines if line.get("case") == "end" and line["part"] != "verify"]
    return table("Parts", ["part", "result", "s", "why"], rows)


def red_list(lines: List[dict]) -> str:
    said = []
    for line in lines:
        if line.get("result") == "failed" and line["case"] != "end":
            said.append(f"- **{line['part']}**, {line['case']}: {cell(line.get('why', ''))}")
        elif "mismatch" in line:
            wrong = line["mismatch"]
            said.append(f"- {line['case']}: {wrong.get('what')}: {wrong.get('wrong')} of {wrong.get('of')} wrong, {wrong.get('nan')} NaN; "
                        f"first {cell(str(wrong.get('first', [])[:3]))}")
        elif "tool" in line:
            said.append(f"- {line['case']}, {line['tool']}: {cell(line.get('said', ''))}")
    return "## Red\n\n" + "\n".join(said) if said else ""


def table(title: str, names: List[str], rows: List[List[str]]) -> str:
    if not rows:
        rows = [[NOT_MEASURED] * len(names)]
    return "\n".join([f"## {title}\n", f"| {' | '.join(names)} |", "|---" * len(names) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def cell(text: str) -> str:
    """In one line of a table."""
    return " ".join(text.replace("|", "\\|").split())[:MOST_WORDS]


def number(value: Optional[float]) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value:.4g}" if abs(value) < 10000 else f"{value:,.0f}"


def first(lines: List[dict], part: str, case: str) -> Optional[dict]:
    return next((line for line in lines if line.get("part") == part and line.get("case") == case), None)


def last(lines: List[dict], part: str, case: str) -> Optional[dict]:
    return first(lines[::-1], part, case)


def latest(lines: List[dict], wanted: Callable[[dict], bool]) -> List[dict]:
    """The last line of every case, in the order in which the cases came first."""
    found: Dict[tuple, dict] = {}
    for line in lines:
        if "part" in line and "case" in line and wanted(line):
            found[line["part"], line["case"], line.get("dtype"), line.get("kind"), line.get("gemm")] = line
    return list(found.values())
