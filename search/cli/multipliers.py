"""The commands about arithmetic: `search multipliers` and `search doctor`. Everything heavy is imported inside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import click

from search.cli import options
from search.cli.errors import in_options, interrupted, print_json, reported_errors


@click.group(invoke_without_command=True)
@options.as_json
@click.pass_context
def multipliers(context: click.Context, as_json: bool) -> None:
    """List approximate multipliers; show one; import or characterise custom ones.

    Without a command, lists the catalogue at 8 bits, unsigned as in most publications, and imported
    multipliers. Families with numbers have more members than are listed: broken-array-3-5, drum-7.
    """
    if context.invoked_subcommand is not None:
        return
    with _errors(context.obj):
        from search.multipliers import catalogue
        from search.report import console

        listed = [catalogue.describe(multiplier) for multiplier in catalogue.listed()]
        if as_json:
            print_json([catalogue.as_json(described) for described in listed])
        else:
            console.print_multipliers(console.open_console(), listed)


@multipliers.command()
@click.argument("name")
@click.option("--bits", type=int, default=8, show_default=True, help="Width of both operands, 2 to 12.")
@click.option("--signed", is_flag=True, help="Operands are signed.  [default: as imported, else unsigned]")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to draw the error heat map.  [default: NAME.png]",
)
@options.as_json
@click.pass_obj
def show(debug: bool, name: str, bits: int, signed: bool, out: Path | None, as_json: bool) -> None:
    """Show a multiplier's errors, and draw them as a heat map."""
    with _errors(debug):
        from search.multipliers import catalogue, heatmap
        from search.report import console

        described = catalogue.describe(catalogue.find(name, bits=bits, signed=signed))
        picture = heatmap.draw_errors(described.multiplier, out or Path(f"{name}.png"))
        if as_json:
            print_json({**catalogue.as_json(described), "heat_map": str(picture)})
        else:
            console.print_multiplier(console.open_console(), described, picture)


@multipliers.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the multiplier; without --table, also which of several in the file.")
@click.option("--table", metavar="NAME", help="Which of several tables or functions in the file.")
@click.option("--signed/--unsigned", default=None, help="Whether operands are signed.  [default: what the file says]")
@click.option(
    "--bits",
    metavar="N|AxW",
    type=options.WIDTHS,
    help="Width of both operands, such as 8, or of activation and weight, such as 8x4.  [default: what the file says]",
)
@click.option(
    "--energy",
    metavar="RATIO",
    type=float,
    help="Energy over that of an exact multiplier of the same widths and sign, as published; searches need it.",
)
@click.option("--area", metavar="RATIO", type=float, help="Area over that of the same.  [default: 1]")
@click.option("--overwrite", is_flag=True, help="Replace the multiplier of this name.")
@options.as_json
@click.pass_obj
def import_(
    debug: bool,
    file: Path,
    name: str | None,
    table: str | None,
    signed: bool | None,
    bits: tuple[int, int] | None,
    energy: float | None,
    area: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Import truth tables or a C model.

    Takes tables of products: .npy, .npz, .csv and other text, .bin, and arrays in C (.h, .c); and
    functions in C (.c). It keeps the multipliers, and prints their errors, what it took from the
    file and what looks wrong. Tables have shape (activation codes, weight codes).
    A function in C is compiled and run on this machine: import only what you trust.

    Energy comes from --energy, or from the header of a file of EvoApproxLib; or measure the
    multiplier's Verilog with: search multipliers characterise FILE.v
    """
    with _errors(debug):
        import approx
        from search.multipliers import catalogue
        from search.report import console

        imported = catalogue.import_file(
            file, name=name, table=table, signed=signed, bits=bits, energy=energy, area=area, overwrite=overwrite
        )
        doubts = [approx.doubts(multiplier) for multiplier in imported]
        for doubt in chain(*doubts):
            click.echo(f"search: {in_options(doubt)}", err=True)
        if any(doubts):
            click.echo("search: to import it in another way, add --overwrite", err=True)
        added = [catalogue.describe(multiplier) for multiplier in imported]
        if as_json:
            print_json([{**catalogue.as_json(one), "doubts": said} for one, said in zip(added, doubts, strict=True)])
        else:
            console.print_imported(console.open_console(), added)


@multipliers.command()
@click.argument("subject", metavar="NAME|FILE", required=False)
@click.option("--name", help="Name of the multiplier in a file.  [default: the file's name]")
@click.option(
    "--signed/--unsigned",
    default=None,
    help="Whether operands in a file are two's complement.  [default: what ports, names or products say]",
)
@click.option("--top", metavar="MODULE", help="Module in a file.  [default: the one that no other uses]")
@click.option(
    "--param",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    help="Value of one of the module's parameters, such as N=8; may be given several times.",
)
@click.option(
    "--weights",
    "weight_port",
    metavar="PORT",
    help="Input port of the weight.  [default: B of A and B, or what is named so, or the second one]",
)
@click.option("--overwrite", is_flag=True, help="Replace the multiplier of this name, such as after editing its file.")
@click.option("--all", "everything", is_flag=True, help="Make the table of the whole catalogue again.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --all: folder for multipliers.csv and its provenance.",
)
@options.as_json
@click.pass_obj
def characterise(
    debug: bool,
    subject: str | None,
    name: str | None,
    signed: bool | None,
    top: str | None,
    parameters: tuple[str, ...],
    weight_port: str | None,
    overwrite: bool,
    everything: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure a multiplier's energy and area in gates.

    For a name of the catalogue, such as drum-7, Verilog is generated; or give a file of Verilog (.v,
    .sv) or BLIF (.blif) with two inputs of 2 to 16 bits, one output and no registers. Yosys maps it
    to cells, simulation proves what it computes, and its energy is counted beside the exact
    multiplier's. Searches can use it from then on, if it has at most 8 bits.

    Needs Yosys, Icarus Verilog and the OSU 180 nm cells; on Debian or Ubuntu:
    apt-get install yosys iverilog qflow-tech-osu018
    """
    with interrupted("stopped; nothing was kept"), _errors(debug):  # imports are inside, because they take seconds too
        from energy import gates
        from search.errors import UsageError
        from search.multipliers import characterised, measuring, shipped_table
        from search.report import circuits, terminal

        if everything == (subject is not None) or everything != (out is not None):
            raise UsageError("give the name of a multiplier or a file of Verilog or BLIF; or --all with --out FOLDER")
        is_file = subject is not None and (Path(subject).suffix.lower() in gates.SUFFIXES or Path(subject).is_file())
        if not is_file and (name or signed is not None or top or parameters or weight_port or overwrite):
            raise UsageError(
                "--name, --signed, --unsigned, --top, --param, --weights and --overwrite need a file of Verilog or BLIF"
            )
        screen = terminal.open_console(stderr=True)
        with screen.status("Synthesising") as status:

            def on_row(done: int, total: int) -> None:
                status.update(f"{done} of {total} circuits and widths")

            if subject is None:
                assert out is not None
                for path in shipped_table.characterise_all(out, on_row=on_row):
                    click.echo(path)
                return
            if is_file:
                found = measuring.characterise_file(
                    Path(subject),
                    name=name,
                    signed=signed,
                    top=top,
                    weight_port=weight_port,
                    parameters=_values(parameters),
                    overwrite=overwrite,
                    on_row=on_row,
                )
            else:
                found = measuring.characterise_name(subject, on_row=on_row)
        for doubt in (found.doubt, *found.doubts):
            if doubt:
                click.echo(f"search: {in_options(doubt)}", err=True)
        if as_json:
            print_json(characterised.as_json(found))
        else:
            circuits.print_characterised(terminal.open_console(), found)


def _values(parameters: tuple[str, ...]) -> dict[str, str]:
    """Read NAME=VALUE."""
    from search.errors import UsageError

    for one in parameters:
        if "=" not in one:
            raise UsageError(f"`parameters` takes NAME=VALUE such as N=8, got {one!r}")
    return {name.strip(): value.strip() for name, _, value in (one.partition("=") for one in parameters)}


@click.command()
@options.as_json
@click.pass_obj
def doctor(debug: bool, as_json: bool) -> None:
    """Show which kernels are in use on this machine."""
    with _errors(debug):
        from search.cli import diagnosis
        from search.report import console

        found = diagnosis.diagnose()
        if as_json:
            print_json(found)
        else:
            console.print_diagnosis(console.open_console(), found)


@contextmanager
def _errors(debug: bool) -> Iterator[None]:
    with reported_errors(debug):
        from approx import ApproxError
        from search.errors import UsageError

        try:
            yield
        except ApproxError as error:
            raise UsageError(str(error)) from error
