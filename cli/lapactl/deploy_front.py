"""The stable address of a deployment on this machine: passes each connection on to the server that is active now.

    python -m lapactl.deploy_front FOLDER HOST PORT

It looks up the active server when a connection is made, and reads nothing of what passes: a switch is one renamed file,
a connection stays with the server that it began with, and a new one reaches the new server.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path

RECORD_FILE, SERVERS = "record.json", "servers"
PATIENCE_SECONDS = 10.0
"""How long a connection waits for a server that is started again."""
BLOCK_BYTES = 2**16


def active_port(folder: Path) -> int:
    """Where the active server listens. Raises OSError, KeyError or ValueError while there is none."""
    record = json.loads((folder / RECORD_FILE).read_text())["record"]
    facts = json.loads((folder / SERVERS / f"{record['history'][-1]['name']}.json").read_text())
    return int(facts["port"])


async def serve(folder: Path, host: str, port: int) -> None:
    """Until SIGTERM."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            other_reader, other_writer = await _reach(folder)
            writers.append(other_writer)
            await asyncio.gather(_pump(reader, other_writer), _pump(other_reader, writer))
        except ConnectionError as error:
            sys.stderr.write(f"event=refused reason={error}\n")
        finally:
            for item in writers:
                item.close()

    server = await asyncio.start_server(pass_on, host, port, limit=BLOCK_BYTES)
    sys.stderr.write(f"event=listening host={host} port={server.sockets[0].getsockname()[1]}\n")
    await stopped.wait()
    server.close()


async def _reach(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the active server. Raises ConnectionError after a while."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", active_port(folder))
        except (OSError, KeyError, ValueError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise ConnectionError("no server is active") from error
            await asyncio.sleep(0.1)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction; its end is passed on, and the other direction goes on."""
    try:
        while block := await reader.read(BLOCK_BYTES):
            writer.write(block)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
