# What every node of a cluster needs: `docker build -t sentiment:0.1.0 .`
# With --build-arg EXTRA=gpu and BASE=rayproject/ray:2.60.0-py311-gpu, for nodes with GPUs.
ARG BASE=rayproject/ray:2.60.0-py311
FROM ${BASE}
ARG EXTRA=train
WORKDIR /home/ray/sentiment
COPY --chown=ray pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=ray sentiment sentiment
COPY --chown=ray pipelines pipelines
RUN pip install --no-cache-dir -c constraints.txt -e ".[$EXTRA]"
# Compiled for this machine's CPU; on another one the first process compiles again. Any user may run
# the programs.
RUN python -m pipelines.compile_all && chmod a+x /home/ray && chmod -R a+rX .
