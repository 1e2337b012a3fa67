"""Command about models on the Hugging Face Hub: push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anowild.cli import options


def push(
    model: options.Model,
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Where to; made if there is no such model.")
    ],
    public: Annotated[
        bool,
        typer.Option(
            "--public", help="Everybody can see a model that is made now; else you alone can."
        ),
    ] = False,
    license_name: Annotated[
        str | None,
        typer.Option(
            "--license", metavar="ID", help="Of the model: apache-2.0, cc-by-4.0, other, ..."
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What `anowild evaluate ... --json` printed; the model's page shows it.",
        ),
    ] = None,
    with_images: Annotated[
        bool,
        typer.Option(
            "--with-images",
            help="Upload ordinary training images, and hashes of all training images, as well.",
        ),
    ] = False,
) -> None:
    """Upload a model to the Hugging Face Hub, for `hf://OWNER/NAME` in the place of MODEL anywhere."""
    from anowild import hub

    measured = None if evaluation is None else hub.read_evaluation(evaluation)
    detector = options.load_detector(model, "cpu", None)
    done = hub.push_to_hub(
        detector, repository, public=public, license=license_name, evaluation=measured,
        with_images=with_images,
    )  # fmt: skip
    seen = "only you and those you allow can see it" if done.private else "everybody can see it"
    print(f"{done.url}: {', '.join(done.files)} (commit {done.commit}); {seen}")
    if not with_images:
        print("training images, and hashes of them, were not uploaded")
    print(f"next: {options.command_line('score', f'hf://{repository}', 'IMAGES')}")
