import asyncio
import contextlib
import time

from migsvc.service.link import Patience


def test_a_caller_that_dribbles_octets_is_cut_off_in_time(lab, run):
    async def dribble(writer):
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"\0")
                await writer.drain()
                await asyncio.sleep(1.5)  # a header of 32 octets would take 48 s

    async def work():
        host = await lab.start("a")
        try:
            address, _, port = host.migration_address.rpartition(":")
            reader, writer = await asyncio.open_connection(address, int(port))
            begun = time.monotonic()
            task = asyncio.create_task(dribble(writer))
            with contextlib.suppress(ConnectionError):
                while await asyncio.wait_for(reader.read(65536), 3 * Patience.ANSWER.value):
                    pass
            assert time.monotonic() - begun < 2 * Patience.ANSWER.value
            task.cancel()
            writer.close()
        finally:
            await lab.stop()

    run(work())
