import csv
import shutil
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from approx import ErrorMetrics, Multiplier, error_metrics, import_multipliers
from approx.errors import ArgumentError, ImportFileError
from approx.multipliers import table_files

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler named cc")


def value(code: int, bits: int = 8) -> int:
    return code - 2**bits if code >= 2 ** (bits - 1) else code


def one(path: Path, *, name: str | None = None, signed: bool = False) -> Multiplier:
    (multiplier,) = import_multipliers(path, name=name, signed=signed)
    return multiplier


# ---- tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint16, np.int64, np.float64])
def test_npy(tmp_path: Path, dtype: type[np.generic]) -> None:
    table: NDArray[np.generic] = np.arange(8 * 4).reshape(8, 4).astype(dtype)
    np.save(tmp_path / "mine.npy", table)
    multiplier = one(tmp_path / "mine.npy")
    assert (multiplier.name, multiplier.activation_bits, multiplier.weight_bits) == ("mine", 3, 2)
    assert not multiplier.weight_signed
    assert multiplier.lut is not None
    assert torch.equal(multiplier.lut, torch.arange(32, dtype=torch.int32).reshape(8, 4))
    assert "mine.npy" in multiplier.provenance
    assert one(tmp_path / "mine.npy", name="other", signed=True).name == "other"


def test_npz_with_many_tables(tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", mul8s_X=np.zeros((4, 4), int), plain=np.ones((4, 8), int))
    found = {multiplier.name: multiplier for multiplier in import_multipliers(tmp_path / "many.npz")}
    assert set(found) == {"mul8s_X", "plain"}
    assert found["mul8s_X"].weight_signed
    assert found["mul8s_X"].activation_signed
    assert not found["plain"].weight_signed
    assert one(tmp_path / "many.npz", name="plain").name == "plain"
    with pytest.raises(ImportFileError, match="has no table 'other'; it has mul8s_X, plain"):
        import_multipliers(tmp_path / "many.npz", name="other")


def test_csv(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("\n".join(",".join(str(-a * w) for w in range(4)) for a in range(8)) + "\n")
    assert one(tmp_path / "mine.csv").table()[5, 3] == -15
    table = np.arange(16).reshape(4, 4)
    np.savetxt(tmp_path / "numpy.csv", table, delimiter=",")
    assert torch.equal(one(tmp_path / "numpy.csv").table(), torch.from_numpy(table).to(torch.int32))
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["1, 2, 3, 4"] * 4).encode())
    assert one(tmp_path / "excel.csv").table()[3].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (np.zeros((256, 255), int), r"shape \(256, 255\); it must be \(activation codes, weight codes\)"),
        (np.zeros(256, int), r"shape \(256,\)"),
        (np.zeros((512, 4), int), r"shape \(512, 4\).*from 4 to 256"),
        (np.zeros((4, 2), int), r"shape \(4, 2\)"),
        (np.full((4, 4), 0.5), r"the entry 0\.5; all must be integers"),
        (np.full((4, 4), np.nan), "the entry nan"),
        (np.full((4, 4), 2**31), r"entries in 2147483648\.\.2147483648; they must fit 32 bits"),
        (np.full((4, 4), "1"), "entries of type <U1"),
        (np.zeros((4, 4), bool), "entries of type bool"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, table: NDArray[np.generic], complaint: str) -> None:
    np.save(tmp_path / "wrong.npy", table)
    with pytest.raises(ArgumentError, match=f"table 'wrong' has .*{complaint}"):
        one(tmp_path / "wrong.npy")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,2\n3\n", "rows have 1 to 2 entries; all must have the same number"),
        ("1,2\n3,x\n", "line 2, entry 2 is 'x', not an integer; entries are separated by commas$"),
        ("a,b\n3,4\n", "line 1, entry 1 is 'a'.*the first line must not be a header"),
        ("1;2\n3;4\n", "line 1, entry 1 is '1;2'"),
        ("1_0,2\n", "entry 1 is '1_0', not an integer"),
        ("nan,2\n", "entry 1 is 'nan', not an integer"),
        ("1,2\n3,4.5\n", r"line 2, entry 2 is '4\.5', not an integer"),
        ("1,2\n3,99999999999999999999\n", "line 2, entry 2 is 99999999999999999999; entries must fit 32 bits"),
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("1,2\n3,4\n", r"shape \(2, 2\)"),
    ],
)
def test_csv_that_does_not_fit_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "wrong.csv").write_text(text)
    with pytest.raises((ImportFileError, ArgumentError), match=complaint):
        one(tmp_path / "wrong.csv")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match=r"there is no file .*nothing\.npy"):
        one(tmp_path / "nothing.npy")
    (tmp_path / "table.txt").write_text("1")
    with pytest.raises(ImportFileError, match=r"cannot import \.txt; supported: \.npy, \.npz, \.csv, \.c"):
        one(tmp_path / "table.txt")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ImportFileError, match=r"damaged\.npz cannot be read"):
        one(tmp_path / "damaged.npz")
    with ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("readme.txt", "not an array")
    with pytest.raises(ImportFileError, match=r"text\.npz"):
        one(tmp_path / "text.npz")
    np.savez_compressed(tmp_path / "bits.npz", table=np.arange(65536).reshape(256, 256))
    whole = bytearray((tmp_path / "bits.npz").read_bytes())
    whole[200:400] = bytes(200)
    (tmp_path / "bits.npz").write_bytes(whole)
    with pytest.raises(ImportFileError, match=r"bits\.npz cannot be read"):
        one(tmp_path / "bits.npz")
    (tmp_path / "damaged.npy").write_bytes(b"")
    with pytest.raises(ImportFileError, match=r"damaged\.npy cannot be read"):
        one(tmp_path / "damaged.npy")


# ---- C models ----------------------------------------------------------------------------------------------------

SHIFTED = "A * 4 + B"  # which operand is which shows in every product


@pytest.mark.process
@needs_compiler
@pytest.mark.parametrize(
    "signature",
    [
        "uint16_t mul8u_T(uint8_t A, uint8_t B)",
        "uint16_t mul8u_T(uint8_t B, uint8_t A)",
        "uint64_t mul8u_T(const uint64_t B,const uint64_t A)",
        "static inline uint16_t mul8u_T( uint8_t B ,\n  uint8_t A )\n",
        "int mul8u_T(int B, int A)",
    ],
)
def test_c_operands_are_matched_by_name(tmp_path: Path, signature: str) -> None:
    (tmp_path / "model.c").write_text(
        f"/* uint16_t mul8u_OLD(uint8_t A, uint8_t B) {{ */\n#include <stdint.h>\n// f(A, B) {{\n{signature}\n"
        f"{{\n  return {SHIFTED};\n}}\n"
    )
    multiplier = one(tmp_path / "model.c")
    assert multiplier.name == "mul8u_T"
    assert not multiplier.weight_signed
    a, b = torch.arange(256)[:, None], torch.arange(256)[None, :]
    assert torch.equal(multiplier.table(), (a * 4 + b).to(torch.int32))


@pytest.mark.process
@needs_compiler
def test_lower_case_operands_are_matched_too(tmp_path: Path) -> None:
    (tmp_path / "model.c").write_text(
        "#include <stdint.h>\nuint16_t mul8u_T(uint8_t b, uint8_t a) { return a * 4 + b; }\n"
    )
    assert one(tmp_path / "model.c").table()[3, 5] == 17


@pytest.mark.process
@needs_compiler
@pytest.mark.parametrize(
    "signature",
    [
        "int16_t mul8s_T(int8_t A, int8_t B)",
        "uint16_t mul8s_T(uint8_t B, uint8_t A)",  # bits in, bits out
        "uint64_t mul8s_T(const uint64_t B, const uint64_t A)",
        "int32_t mul8s_T(int32_t B, int32_t A)",
        "uint32_t mul8s_T(int8_t A, int8_t B)",  # the sign in all 32 bits
    ],
)
def test_signed_c_results_are_widened(tmp_path: Path, signature: str) -> None:
    body = "int a = (int8_t)A, b = (int8_t)B; return (uint16_t)(a * b - 2 * a);"
    if "int32_t" in signature.split("(")[0]:
        body = "return A * B - 2 * A;"
    (tmp_path / "mul8s_T.c").write_text(f"#include <stdint.h>\n{signature} {{ {body} }}\n")
    multiplier = one(tmp_path / "mul8s_T.c")
    assert multiplier.weight_signed
    assert multiplier.activation_signed
    table = multiplier.table().tolist()
    for a in range(256):
        for b in range(256):
            assert table[a][b] == value(a) * value(b) - 2 * value(a)


@pytest.mark.process
@needs_compiler
def test_wide_signed_c_results_stay_as_they_are(tmp_path: Path) -> None:
    text = '#include <stdint.h>\n#include <math.h>\n#include "three.h"\n'
    (tmp_path / "three.h").write_text("#define THREE 3\n")  # beside the model, as its includes are
    (tmp_path / "m.c").write_text(text + "int32_t mul8s_T(int8_t A, int8_t B) { return A * B * (int)fabs(-THREE); }\n")
    table = one(tmp_path / "m.c").table()
    assert table[127, 127] == 127 * 127 * 3
    assert table[128, 127] == -128 * 127 * 3


@pytest.mark.process
@needs_compiler
def test_widths_are_read_from_the_name(tmp_path: Path) -> None:
    (tmp_path / "m.c").write_text("#include <stdint.h>\nuint16_t mul4x6u_T(uint8_t A, uint8_t B) { return A * B; }\n")
    multiplier = one(tmp_path / "m.c")
    assert (multiplier.activation_bits, multiplier.weight_bits) == (4, 6)
    (tmp_path / "w.c").write_text("#include <stdint.h>\nuint32_t mul12u_T(uint16_t A, uint16_t B) { return A * B; }\n")
    with pytest.raises(ImportFileError, match="multiplies 12 bits; truth tables go up to 8"):
        one(tmp_path / "w.c")


@pytest.mark.process
@needs_compiler
def test_c_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.c"
    source.write_text("int mul(int x, int y) { return x * y; }\n")
    with pytest.raises(ImportFileError, match="has no function of two integers named A and B"):
        one(source)
    source.write_text("int f(int A, int B) { return 1; }\nint g(int A, int B) { return 2; }\n")
    with pytest.raises(ImportFileError, match=r"several functions of A and B \(f, g\); choose one by `name`"):
        one(source)
    assert one(source, name="g").table()[0, 0] == 2
    source.write_text("int f(int A, int B) { return A *; }\n")
    with pytest.raises(ImportFileError, match=r"does not compile with .*: model\.c:1:.*error"):
        one(source)


@pytest.mark.process
@needs_compiler
def test_c_forms_found_in_the_wild(tmp_path: Path) -> None:
    source = tmp_path / "model.c"
    helper = "static unsigned add(unsigned a, unsigned b) { return a + b; }\n"
    operands = "(unsigned char const B, unsigned char const A)"
    source.write_text(f"{helper}unsigned short mul8u_H{operands}\n{{ return add(A * 4, B); }}\n")
    multiplier = one(source)
    assert multiplier.name == "mul8u_H"
    assert multiplier.table()[3, 5] == 17
    source.write_text("short value(signed char a, signed char b) { return a * b; }\n")
    assert one(source).weight_signed
    assert one(source).table()[255, 2] == -2
    body = "(uint8_t A, uint8_t B) { return A * B; }"
    source.write_text(f"#include <stdint.h>\n#ifdef OLD\nint mul8u_T{body}\n#else\nint mul8u_T{body}\n#endif\n")
    assert one(source).table()[3, 5] == 15


@pytest.mark.process
@needs_compiler
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("return *(volatile int *)0;", "f ended with signal 11"),
        ("return 1000 / A;", "f ended with signal 8"),
        ("exit(0);", "f ended with exit code 0 before it had computed all its products"),
        ("for (;;) A += 0;", "f took more than 1 s"),
        ("return other(A, B);", "does not compile with .*undefined reference"),
    ],
)
def test_c_that_does_not_come_back_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, complaint: str
) -> None:
    monkeypatch.setattr(table_files, "_SECONDS", 1)
    source = tmp_path / "model.c"
    source.write_text(f"#include <stdlib.h>\nint other(int, int);\nint f(volatile int A, int B) {{ {body} }}\n")
    with pytest.raises(ImportFileError, match=complaint) as caught:
        one(source)
    assert "\n" not in str(caught.value)


@needs_compiler
def test_c_of_other_types_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.c").write_text("double f(double A, double B) { return A * B; }\n")
    with pytest.raises(ImportFileError, match="f takes operands of type 'double', which is not an integer type"):
        one(tmp_path / "m.c")


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "model.c").write_text("int f(int A, int B) { return A * B; }\n")
    with pytest.raises(ImportFileError, match="needs a C compiler, and neither cc, gcc nor clang is installed"):
        one(tmp_path / "model.c")


# ---- EvoApproxLib ------------------------------------------------------------------------------------------------


def rounding(column: str, published: float) -> float:
    """By how much a figure may differ from one that was rounded as EvoApproxLib rounds."""
    if column == "meas_bias":
        return 5.1e-5
    if column in ("MRE_pct", "EP_pct") and published >= 0.1:
        return 5.1e-3
    # Whole numbers of eight digits at most, some rounded and some cut off, or two significant digits.
    return max(0.99, 1e-8 * published) if published >= 10 else 0.05 * published


def test_evoapproxlib_has_its_published_errors(real_data: Path) -> None:
    folder = real_data / "evoapprox8x8"
    if not folder.is_dir():
        pytest.skip("needs evoapprox8x8 beside MNIST")
    with (folder / "evoapprox8x8.csv").open() as lines:
        published = {row["name"]: row for row in csv.DictReader(lines)}
    imported = {multiplier.name: multiplier for multiplier in import_multipliers(folder / "evoapprox8x8.npz")}
    assert imported.keys() == published.keys()
    assert len(imported) == 27
    for name, row in published.items():
        assert imported[name].weight_signed == (row["signed"] == "1")
        metrics: ErrorMetrics = error_metrics(imported[name])
        measured = {
            "MAE": metrics.mae,
            "WCE": metrics.wce,
            "MRE_pct": metrics.mre_nonzero * 100,
            "EP_pct": metrics.error_probability * 100,
            "MSE": metrics.mse,
            "meas_bias": metrics.bias,
        }
        for column, found in measured.items():
            theirs = float(row[column])
            assert abs(found - theirs) <= rounding(column, theirs), (name, column, found, theirs)
        assert metrics.commutative == (row["commutative"] == "1"), name
        assert metrics.zero_preserving == (row["zero_times_x_is_zero"] == "1"), name
