# One image for every service of docker-compose.yml; popq with training and Flower.
FROM python:3.12-slim
WORKDIR /popq
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --create-home popq && mkdir /data && chown popq /data
USER popq
WORKDIR /home/popq
ENTRYPOINT ["popq"]
